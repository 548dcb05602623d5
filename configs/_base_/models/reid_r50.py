# ResNet-50 on crops, its last stage at the stride of the one before, and one layer to the embedding, trained with OIM. As for
# DKD's teacher, boxes are moved at random and parts of the crops erased.
model = dict(
    type='CropReID',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    crop_size=(256, 128),
    box_jitter=0.1,
    erasing=0.5,
    reid=dict(
        type='ReIDNetwork',
        backbone=dict(
            type='ResNet',
            depth=50,
            num_stages=4,
            strides=(1, 2, 2, 1),
            out_indices=(3,),
            norm_eval=False,
            style='pytorch',
            init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
        ),
        in_channels=2048,
        out_channels=256,
    ),
    reid_loss=dict(type='OIMLoss', embed_dims=256, queue_size=5000, momentum=0.5, scale=30.0),
)
