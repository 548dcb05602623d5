# AlignPS's training images: each at one of six scales.
_base_ = './prw.py'
train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(
    type='RandomChoiceResize',
    scales=[(667, 400), (1000, 600), (1333, 800), (1500, 900), (1666, 1000), (2000, 1200)],
    keep_ratio=True,
)
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
