# Half of ResNet-18's width.
_base_ = './alignps_r18-w8.py'
model = dict(backbone=dict(base_channels=32), neck=dict(in_channels=[32, 64, 128, 256]))
