from .alignps_head import AlignPSHead

__all__ = ['AlignPSHead']
