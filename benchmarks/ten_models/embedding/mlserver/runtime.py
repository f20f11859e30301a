from typing import List

import numpy as np
from mlserver import MLModel
from mlserver.codecs import decode_args
from sentence_transformers import SentenceTransformer


class Embedding(MLModel):
    async def load(self) -> bool:
        self.model = SentenceTransformer(self.settings.parameters.uri)
        return True

    @decode_args
    async def predict(self, text: List[str]) -> np.ndarray:
        return self.model.encode(text)
