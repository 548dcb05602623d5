# GDPS with another feature-based loss: squared differences of the standardised maps, with weights of persons and background.
_base_ = './gdps.py'
distil = dict(
    distiller=dict(
        student_recorders=dict(boxes=dict(type='Batch', source='boxes'), sizes=dict(type='Batch', source='sizes')),
        distill_losses=dict(loss_feature=dict(_delete_=True, type='PersonFeatureLoss', loss_weight=2.0, per_level=True)),
        loss_forward_mappings=dict(
            loss_feature=dict(
                _delete_=True,
                student=dict(from_student=True, recorder='feats', connector='neck'),
                teacher=dict(from_student=False, recorder='feats'),
                boxes=dict(from_student=True, recorder='boxes'),
                sizes=dict(from_student=True, recorder='sizes'),
            )
        ),
    )
)
