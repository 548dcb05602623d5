from .run import add_overrides, config_parser, converter_parser, few, load_config, run_tool

__all__ = ['add_overrides', 'config_parser', 'converter_parser', 'few', 'load_config', 'run_tool']
