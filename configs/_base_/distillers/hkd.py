# HKD, head knowledge distillation (ACM MM 2023): a second re-id head, trained before on crops, gets the same RoIs as the head
# of the student, teaches it and learns on. Both losses compare the labelled persons among the positive RoIs. Their constants
# are those of the published command for CUHK-SYSU, beside OIM with scale 30 and weight 1. They follow the student's own OIM
# (accompanies): temperature 2 is one of its logits.
distil = dict(
    teacher_input='rois',
    distiller=dict(
        type='PersonSearchDistiller',
        accompanies='reid_loss',
        student_recorders=dict(
            persons=dict(type='MethodInputs', source='reid_loss.forward'),
            lut=dict(type='Attribute', source='reid_loss.memory.lut'),
        ),
        teacher_recorders=dict(
            persons=dict(type='MethodInputs', source='reid_loss.forward'),
            lut=dict(type='Attribute', source='reid_loss.memory.lut'),
        ),
        distill_losses=dict(
            loss_response=dict(type='ResponseLoss', temperature=2.0, symmetric=True, loss_weight=1.0),
            loss_relation=dict(type='RelationDivergenceLoss', temperature=4.0, loss_weight=50.0),
        ),
        loss_forward_mappings=dict(
            loss_response=dict(
                student=dict(from_student=True, recorder='persons', data_idx=0),
                teacher=dict(from_student=False, recorder='persons', data_idx=0),
                student_lut=dict(from_student=True, recorder='lut'),
                teacher_lut=dict(from_student=False, recorder='lut'),
                person_ids=dict(from_student=True, recorder='persons', data_idx=1),
            ),
            loss_relation=dict(
                student=dict(from_student=True, recorder='persons', data_idx=0),
                teacher=dict(from_student=False, recorder='persons', data_idx=0),
                person_ids=dict(from_student=True, recorder='persons', data_idx=1),
            ),
        ),
    ),
)
