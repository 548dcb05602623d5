from .alignps import AlignPS
from .crop_reid import CropReID, CropReIDHead, ReIDNetwork
from .person_detector import PersonDetector
from .qeeps import QEEPS
from .two_stage import TwoStagePersonSearch

__all__ = ['QEEPS', 'AlignPS', 'CropReID', 'CropReIDHead', 'PersonDetector', 'ReIDNetwork', 'TwoStagePersonSearch']
