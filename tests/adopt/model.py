"""Fits the model that the old services serve: the price of a house in EUR."""

from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LinearRegression

houses = np.array([[50.0, 2.0], [80.0, 3.0], [100.0, 4.0], [120.0, 4.0]])
model = LinearRegression().fit(houses, houses @ [3000, 1000])
joblib.dump(model, Path(__file__).with_name("model.joblib"))
