# HKD's losses within one network: the re-id branch's outputs for the true boxes teach its outputs for the detected boxes.
# There is no second head. The constants of probabilities and similarities are those of hkd.py. The embedding term has weight 0
# in the published commands and 1 here.
distil = dict(
    box_jitter=0.2,
    student_boxes='detected',
    distiller=dict(
        type='PersonSearchDistiller',
        accompanies='reid_loss',
        student_recorders=dict(
            embeddings=dict(type='MethodOutputs', source='embed'), lut=dict(type='Attribute', source='memory.lut')
        ),
        teacher_recorders=dict(embeddings=dict(type='MethodOutputs', source='embed')),
        distill_losses=dict(
            loss_embedding=dict(type='EmbeddingLoss', loss_weight=1.0),
            loss_response=dict(type='ResponseLoss', temperature=2.0, symmetric=True, loss_weight=1.0),
            loss_relation=dict(type='RelationDivergenceLoss', temperature=4.0, loss_weight=50.0),
        ),
        loss_forward_mappings=dict(
            loss_embedding=dict(
                student=dict(from_student=True, recorder='embeddings'), teacher=dict(from_student=False, recorder='embeddings')
            ),
            loss_response=dict(
                student_lut=dict(from_student=True, recorder='lut'),
                teacher_lut=dict(from_student=True, recorder='lut'),
                student=dict(from_student=True, recorder='embeddings'),
                teacher=dict(from_student=False, recorder='embeddings'),
            ),
            loss_relation=dict(
                student=dict(from_student=True, recorder='embeddings'), teacher=dict(from_student=False, recorder='embeddings')
            ),
        ),
    ),
)
