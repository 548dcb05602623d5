from . import anchors, backbones, box_deltas, dense_heads, detectors, losses, necks, pretrained, roi_heads
from .embedding_heads import EmbeddingHead, NormAwareEmbedding
from .memory import IdentityMemory

__all__ = [
    'EmbeddingHead',
    'IdentityMemory',
    'NormAwareEmbedding',
    'anchors',
    'backbones',
    'box_deltas',
    'dense_heads',
    'detectors',
    'losses',
    'necks',
    'pretrained',
    'roi_heads',
]
