# FGD (Yang et al., CVPR 2022): persons and background apart, weighed by the teacher's attention (focal), and the relations
# between places (global). Temperature and weights are those of its authors' config for RetinaNet; for two-stage detectors
# they have a twentieth of them, for far larger maps.
_base_ = './feature.py'
distil = dict(
    distiller=dict(
        student_recorders=dict(boxes=dict(type='Batch', source='boxes')),
        distill_losses=dict(
            loss_feature=dict(
                type='FGDLoss',
                channels='teacher_channels',
                stride='stride',
                temperature=0.5,
                person_weight=1e-3,
                background_weight=5e-4,
                attention_weight=5e-4,
                relation_weight=5e-6,
            )
        ),
        loss_forward_mappings=dict(
            loss_feature=dict(
                _delete_=True,
                student=dict(from_student=True, recorder='feats', data_idx='student_level', connector='neck'),
                teacher=dict(from_student=False, recorder='feats', data_idx='teacher_level'),
                boxes=dict(from_student=True, recorder='boxes'),
            )
        ),
    )
)
