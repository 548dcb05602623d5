from .conversion import convert_checkpoint, converter_parser
from .run import config_parser, few, load_config, run_tool

__all__ = ['config_parser', 'convert_checkpoint', 'converter_parser', 'few', 'load_config', 'run_tool']
