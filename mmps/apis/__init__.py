from .run import run_tool

__all__ = ['run_tool']
