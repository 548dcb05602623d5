dataset_type = 'CUHKSYSU'
data_root = 'data/cuhk_sysu'
img_scale = (1500, 900)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPersonAnnotations', with_bbox=True),
    dict(type='Resize', scale=img_scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackPersonSearchInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=img_scale, keep_ratio=True),
    dict(type='LoadPersonAnnotations', with_bbox=True),  # after Resize: boxes stay in original-image pixels
    dict(type='PackPersonSearchInputs'),
]
train_dataloader = dict(
    batch_size=5,
    num_workers=4,
    persistent_workers=False,  # SeedHook seeds those of each epoch
    worker_init_fn=dict(type='seed_worker'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(type=dataset_type, data_root=data_root, filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, test_mode=True, gallery_size=100, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='PersonSearchMetric')
test_evaluator = dict(type='PersonSearchMetric', cbgm=True, upper_bound=True)
