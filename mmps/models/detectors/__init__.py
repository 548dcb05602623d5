from .alignps import AlignPS
from .crop_reid import CropReID, CropReIDHead, ReIDNetwork
from .two_stage import TwoStagePersonSearch

__all__ = ['AlignPS', 'CropReID', 'CropReIDHead', 'ReIDNetwork', 'TwoStagePersonSearch']
