# Without moved boxes in training: for DKD without spatial-invariant augmentation.
_base_ = './reid_r50_20e_prw.py'
model = dict(box_jitter=0.0)
