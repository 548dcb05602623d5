# A small OIM detector, trained from scratch on any MOTChallenge folder, at half the size of 1920 x 1080 frames.
_base_ = ['../_base_/models/oim_r18-w8_fpn.py', '../_base_/datasets/mot.py', '../_base_/schedules/schedule_500it_scratch.py']
img_scale = (960, 540)
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = test_pipeline[1].scale = img_scale
# Crowded streets need more proposals than the base config has.
model = dict(
    train_cfg=dict(rpn_proposal=dict(nms_pre=1000, max_per_img=300), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=200), rcnn=dict(max_per_img=100)),
)
train_dataloader = dict(
    batch_size=2, num_workers=1, sampler=dict(type='InfiniteSampler', shuffle=True), dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
