from .base import Annotations, PersonSearchDataset
from .cuhk_sysu import CUHKSYSU
from .mot import MOTChallenge
from .pair_sampler import PairSampler
from .prw import PRW
from .transforms import LoadPersonAnnotations, PackPersonSearchInputs

__all__ = [
    'CUHKSYSU',
    'PRW',
    'Annotations',
    'LoadPersonAnnotations',
    'MOTChallenge',
    'PackPersonSearchInputs',
    'PairSampler',
    'PersonSearchDataset',
]
