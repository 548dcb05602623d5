# SynthPS as tools/make_synthetic.py --layout cuhk-sysu --size photo writes it, for models that are meant for photographs: in
# training cut-outs with persons of 20 to 400 pixels, some enlarged, with other colours; in a test a short side of 432, so
# that nobody is taller than in training.
_base_ = './cuhk_sysu.py'
data_root = 'data/synthps-photo'
resize = dict(type='RandomResize', scale=(768, 432), keep_ratio=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPersonAnnotations', with_bbox=True),
    dict(
        type='RandomChoice',
        transforms=[[dict(ratio_range=(0.4, 1.5), **resize)], [dict(ratio_range=(1.5, 3.0), **resize)]],
        prob=[0.7, 0.3],
    ),
    dict(type='RandomCrop', crop_size=(320, 416), allow_negative_crop=False),  # width, height
    dict(type='FilterAnnotations', min_gt_bbox_wh=(4, 10), keep_empty=True),  # slivers at the border
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackPersonSearchInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (768, 432)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, gallery_size=100, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
