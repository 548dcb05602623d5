# FGD (Yang et al., CVPR 2022): separate weights for persons and background, with the teacher's attention (focal), and the
# relations between places (global). Temperature and weights are those of the authors' config for RetinaNet, but for maps that
# are standardised first. On raw maps the attention and the size of the loss depend on the detector. fgd-two-stage.py has the
# authors' form for two-stage detectors.
distil = dict(
    distiller=dict(
        type='PersonSearchDistiller',
        student_recorders=dict(
            feats=dict(type='FeatureMaps'), boxes=dict(type='Batch', source='boxes'), sizes=dict(type='Batch', source='sizes')
        ),
        teacher_recorders=dict(feats=dict(type='FeatureMaps')),
        connectors=dict(neck=dict(type='mmrazor.ConvModuleConnector', kernel_size=1, act_cfg=None, per_level=True)),
        distill_losses=dict(
            loss_feature=dict(
                type='FGDLoss',
                temperature=0.5,
                person_weight=1e-3,
                background_weight=5e-4,
                attention_weight=5e-4,
                relation_weight=5e-6,
                standardised=True,
                per_level=True,
            )
        ),
        loss_forward_mappings=dict(
            loss_feature=dict(
                student=dict(from_student=True, recorder='feats', connector='neck'),
                teacher=dict(from_student=False, recorder='feats'),
                boxes=dict(from_student=True, recorder='boxes'),
                sizes=dict(from_student=True, recorder='sizes'),
            )
        ),
    )
)
