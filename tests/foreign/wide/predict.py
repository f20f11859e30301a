"""Two hundred fields."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from service.core.tensors import Tensors


class Instance(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra=lambda schema: schema.update(
            examples=[dict.fromkeys(schema["properties"], 0.5)]
        ),
    )

    feature_000: float
    feature_001: float
    feature_002: float
    feature_003: float
    feature_004: float
    feature_005: float
    feature_006: float
    feature_007: float
    feature_008: float
    feature_009: float
    feature_010: float
    feature_011: float
    feature_012: float
    feature_013: float
    feature_014: float
    feature_015: float
    feature_016: float
    feature_017: float
    feature_018: float
    feature_019: float
    feature_020: float
    feature_021: float
    feature_022: float
    feature_023: float
    feature_024: float
    feature_025: float
    feature_026: float
    feature_027: float
    feature_028: float
    feature_029: float
    feature_030: float
    feature_031: float
    feature_032: float
    feature_033: float
    feature_034: float
    feature_035: float
    feature_036: float
    feature_037: float
    feature_038: float
    feature_039: float
    feature_040: float
    feature_041: float
    feature_042: float
    feature_043: float
    feature_044: float
    feature_045: float
    feature_046: float
    feature_047: float
    feature_048: float
    feature_049: float
    feature_050: float
    feature_051: float
    feature_052: float
    feature_053: float
    feature_054: float
    feature_055: float
    feature_056: float
    feature_057: float
    feature_058: float
    feature_059: float
    feature_060: float
    feature_061: float
    feature_062: float
    feature_063: float
    feature_064: float
    feature_065: float
    feature_066: float
    feature_067: float
    feature_068: float
    feature_069: float
    feature_070: float
    feature_071: float
    feature_072: float
    feature_073: float
    feature_074: float
    feature_075: float
    feature_076: float
    feature_077: float
    feature_078: float
    feature_079: float
    feature_080: float
    feature_081: float
    feature_082: float
    feature_083: float
    feature_084: float
    feature_085: float
    feature_086: float
    feature_087: float
    feature_088: float
    feature_089: float
    feature_090: float
    feature_091: float
    feature_092: float
    feature_093: float
    feature_094: float
    feature_095: float
    feature_096: float
    feature_097: float
    feature_098: float
    feature_099: float
    feature_100: float
    feature_101: float
    feature_102: float
    feature_103: float
    feature_104: float
    feature_105: float
    feature_106: float
    feature_107: float
    feature_108: float
    feature_109: float
    feature_110: float
    feature_111: float
    feature_112: float
    feature_113: float
    feature_114: float
    feature_115: float
    feature_116: float
    feature_117: float
    feature_118: float
    feature_119: float
    feature_120: float
    feature_121: float
    feature_122: float
    feature_123: float
    feature_124: float
    feature_125: float
    feature_126: float
    feature_127: float
    feature_128: float
    feature_129: float
    feature_130: float
    feature_131: float
    feature_132: float
    feature_133: float
    feature_134: float
    feature_135: float
    feature_136: float
    feature_137: float
    feature_138: float
    feature_139: float
    feature_140: float
    feature_141: float
    feature_142: float
    feature_143: float
    feature_144: float
    feature_145: float
    feature_146: float
    feature_147: float
    feature_148: float
    feature_149: float
    feature_150: float
    feature_151: float
    feature_152: float
    feature_153: float
    feature_154: float
    feature_155: float
    feature_156: float
    feature_157: float
    feature_158: float
    feature_159: float
    feature_160: float
    feature_161: float
    feature_162: float
    feature_163: float
    feature_164: float
    feature_165: float
    feature_166: float
    feature_167: float
    feature_168: float
    feature_169: float
    feature_170: float
    feature_171: float
    feature_172: float
    feature_173: float
    feature_174: float
    feature_175: float
    feature_176: float
    feature_177: float
    feature_178: float
    feature_179: float
    feature_180: float
    feature_181: float
    feature_182: float
    feature_183: float
    feature_184: float
    feature_185: float
    feature_186: float
    feature_187: float
    feature_188: float
    feature_189: float
    feature_190: float
    feature_191: float
    feature_192: float
    feature_193: float
    feature_194: float
    feature_195: float
    feature_196: float
    feature_197: float
    feature_198: float
    feature_199: float


class Prediction(BaseModel):
    total: float


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    rows = [list(each.__dict__.values()) for each in instances]
    return {"features": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [Prediction(total=total) for total in outputs["total"].tolist()]
