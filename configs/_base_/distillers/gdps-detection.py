# GDPS with one term more, for the detection: soft targets of the persons' and background boxes' logits, as in ddps.py.
_base_ = './gdps.py'
distil = dict(
    distiller=dict(
        student_recorders=dict(refined=dict(type='MethodOutputs', source='refine_boxes')),
        teacher_recorders=dict(refined=dict(type='MethodOutputs', source='refine_boxes')),
        distill_losses=dict(loss_boxes=dict(type='SoftTargetLoss', background_weight=1.0, temperature=4.0, loss_weight=1.0)),
        loss_forward_mappings=dict(
            loss_boxes=dict(
                student=dict(from_student=True, recorder='refined', data_idx=0),
                teacher=dict(from_student=False, recorder='refined', data_idx=0),
            )
        ),
    )
)
