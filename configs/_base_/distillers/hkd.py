# HKD (ACM MM 2023) inside one network: the re-id branch's outputs for the true boxes teach its outputs for the detected boxes.
# The weights of the published code for CUHK-SYSU are:
# - embeddings: weight 0. Here it is 1.
# - probabilities of identities, in both directions: weight 1 and temperature 2, for logits scaled by 30. Here the logits are
#   not scaled: the same loss has temperature 2 / 30 and weight 30^2 = 900.
# - similarities: weight 50 and temperature 4, as here.
# In that code, the teaching re-id head is a separate one that was trained before. Here it is the same head.
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
