"""A trained detector as an ONNX file."""

from .exporter import ExportOptions, export_onnx

__all__ = ['ExportOptions', 'export_onnx']
