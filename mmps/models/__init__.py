from . import anchors, dense_heads, detectors, losses, necks, roi_heads
from .embedding import EmbeddingHead, NormAwareEmbedding
from .memory import IdentityMemory

__all__ = ['EmbeddingHead', 'IdentityMemory', 'NormAwareEmbedding', 'anchors', 'dense_heads', 'detectors',
           'losses', 'necks', 'roi_heads']
