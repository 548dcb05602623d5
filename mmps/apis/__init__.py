from .converters import convert_checkpoint

__all__ = ['convert_checkpoint']
