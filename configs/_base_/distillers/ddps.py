# DDPS (TMM 2024) has three terms:
# - FGD on the feature maps, as in fgd.py. The authors use FGD's form for two-stage detectors: ddps-two-stage.py.
# - Decoupled knowledge distillation (CVPR 2022) of the detection head's logits, at the authors' temperature 4. For the two
#   classes person and background it is a KL divergence.
# - The squared error of the persons' similarity matrices: smooth L1 with beta = 2 is x^2 / 4 for |x| <= 2. The authors' weight
#   is 0.01 for the sum over pairs. For 24 persons, that is about the weight 20 for the mean, which is used here.
distil = dict(
    distiller=dict(
        type='PersonSearchDistiller',
        student_recorders=dict(
            boxes=dict(type='Batch', source='boxes'),
            sizes=dict(type='Batch', source='sizes'),
            feats=dict(type='FeatureMaps'),
            refined=dict(type='MethodOutputs', source='refine_boxes'),
            embeddings=dict(type='MethodOutputs', source='embed'),
        ),
        teacher_recorders=dict(
            feats=dict(type='FeatureMaps'),
            refined=dict(type='MethodOutputs', source='refine_boxes'),
            embeddings=dict(type='MethodOutputs', source='embed'),
        ),
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
            ),
            loss_boxes=dict(type='SoftTargetLoss', background_weight=1.0, temperature=4.0, loss_weight=1.0),
            loss_relation=dict(type='RelationLoss', beta=2.0, loss_weight=20.0),
        ),
        loss_forward_mappings=dict(
            loss_feature=dict(
                student=dict(from_student=True, recorder='feats', connector='neck'),
                teacher=dict(from_student=False, recorder='feats'),
                boxes=dict(from_student=True, recorder='boxes'),
                sizes=dict(from_student=True, recorder='sizes'),
            ),
            loss_boxes=dict(
                student=dict(from_student=True, recorder='refined', data_idx=0),
                teacher=dict(from_student=False, recorder='refined', data_idx=0),
            ),
            loss_relation=dict(
                student=dict(from_student=True, recorder='embeddings'), teacher=dict(from_student=False, recorder='embeddings')
            ),
        ),
    )
)
