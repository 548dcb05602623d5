from . import detectors, losses, roi_heads
from .embedding import EmbeddingHead
from .memory import IdentityMemory

__all__ = ['EmbeddingHead', 'IdentityMemory', 'detectors', 'losses', 'roi_heads']
