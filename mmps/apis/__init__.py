from .conversion import convert_checkpoint, converter_parser
from .run import add_overrides, config_parser, few, load_config, run_tool

__all__ = ['add_overrides', 'config_parser', 'convert_checkpoint', 'converter_parser', 'few', 'load_config', 'run_tool']
