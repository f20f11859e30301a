"""Writes the model of an old service as the new one takes it: with skops, not pickle."""

import sys
from pathlib import Path

import joblib
from skops.io import dump

old, new = map(Path, sys.argv[1:])
new.parent.mkdir(exist_ok=True)
dump(joblib.load(old), new)
