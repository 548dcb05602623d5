# SynthPS as tools/make_synthetic.py --layout cuhk-sysu --size photo writes it, for models that are meant for photographs:
# in training, persons of 10 to 500 pixels in cut-outs of many sizes; in a test, images whose short side is 540.
_base_ = './cuhk_sysu.py'
data_root = 'data/synthps-photo'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPersonAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=(768, 432), ratio_range=(0.4, 1.8), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(288, 448), allow_negative_crop=False),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(4, 10), keep_empty=True),  # slivers at the border
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackPersonSearchInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (960, 540)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, gallery_size=100, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
