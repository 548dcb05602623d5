from .giou import BoxGIoULoss
from .oim import OIMLoss
from .triplet import TripletLoss

__all__ = ['BoxGIoULoss', 'OIMLoss', 'TripletLoss']
