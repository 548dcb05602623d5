from .ranked_results import Crop, draw_rows, search_rows, write_rows

__all__ = ['Crop', 'draw_rows', 'search_rows', 'write_rows']
