# The detector's part of Munjal et al. (BMVC 2019), after Chen et al. (NIPS 2017):
# - a hint loss on the feature maps, with weight 0.5 as there
# - soft targets of the dense head, on 256 anchors of each image, and of the boxes, with background weight 1.5. There, hard and
#   soft loss have weight 0.5 each.
# - a box regression that is bounded by the teacher's, with weight 0.5
distil = dict(
    box_jitter=0.2,
    distiller=dict(
        type='PersonSearchDistiller',
        student_recorders=dict(
            samples=dict(type='Batch', source='samples'),
            boxes=dict(type='MethodInputs', source='refine_boxes'),
            feats=dict(type='FeatureMaps'),
            dense=dict(type='MethodOutputs', source='dense_head.forward'),
            refined=dict(type='MethodOutputs', source='refine_boxes'),
        ),
        teacher_recorders=dict(
            feats=dict(type='FeatureMaps'),
            dense=dict(type='MethodOutputs', source='dense_head.forward'),
            refined=dict(type='MethodOutputs', source='refine_boxes'),
        ),
        connectors=dict(neck=dict(type='mmrazor.ConvModuleConnector', kernel_size=1, act_cfg=None, per_level=True)),
        distill_losses=dict(
            loss_feature=dict(type='mmrazor.L2Loss', normalize=False, div_element=True, loss_weight=0.5, per_level=True),
            loss_dense=dict(type='SoftTargetLoss', background_weight=1.5, num_samples=256, loss_weight=1.0),
            loss_boxes=dict(type='SoftTargetLoss', background_weight=1.5, num_samples=1024, loss_weight=1.0),  # all boxes
            loss_bounded=dict(type='BoundedRegressionLoss', loss_weight=0.5),
        ),
        loss_forward_mappings=dict(
            loss_feature=dict(
                s_feature=dict(from_student=True, recorder='feats', connector='neck'),
                t_feature=dict(from_student=False, recorder='feats'),
            ),
            loss_dense=dict(
                student=dict(from_student=True, recorder='dense', data_idx=0),
                teacher=dict(from_student=False, recorder='dense', data_idx=0),
            ),
            loss_boxes=dict(
                student=dict(from_student=True, recorder='refined', data_idx=0),
                teacher=dict(from_student=False, recorder='refined', data_idx=0),
            ),
            loss_bounded=dict(
                student=dict(from_student=True, recorder='refined', data_idx=1),
                teacher=dict(from_student=False, recorder='refined', data_idx=1),
                boxes=dict(from_student=True, recorder='boxes', data_idx=1),
                samples=dict(from_student=True, recorder='samples'),
            ),
        ),
    ),
)
