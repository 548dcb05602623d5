# HKD (ACM MM 2023) inside one network: what the re-id branch says of the true boxes teaches what it says of the detected
# ones, by the embeddings themselves, by probabilities of identities (temperature 2 for logits scaled by 30, weight 1: here
# 2 / 30 and 30^2, in both directions) and by similarities (temperature 4, weight 50), as the published code has them for
# CUHK-SYSU, where the first term has weight 0. There the teaching re-id head is one of its own, trained before; here it is
# the same one.
distil = dict(
    box_jitter=0.2,
    student_boxes='detected',
    distiller=dict(
        type='PersonSearchDistiller',
        student_recorders=dict(
            embeddings=dict(type='MethodOutputs', source='embed'), lut=dict(type='Attribute', source='memory.lut')
        ),
        teacher_recorders=dict(embeddings=dict(type='MethodOutputs', source='embed')),
        distill_losses=dict(
            loss_embedding=dict(type='EmbeddingLoss', loss_weight=1.0),
            loss_response=dict(type='ResponseLoss', temperature=2 / 30, symmetric=True, loss_weight=900.0),
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
