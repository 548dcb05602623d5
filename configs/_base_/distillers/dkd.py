# DKD, diverse knowledge distillation (Zhang et al., AAAI 2021): a re-id network on crops teaches the re-id branch. The terms
# compare the probabilities of identities, pairs of persons and triplets of persons. The formulas are those of the authors'
# project page. Weights, margin, jitter and the rule for the temperature are ours: the page has no values.
distil = dict(
    box_jitter=0.1,
    distiller=dict(
        type='PersonSearchDistiller',
        reid_jitter=0.1,
        student_recorders=dict(
            embeddings=dict(type='MethodOutputs', source='embed'), lut=dict(type='Attribute', source='memory.lut')
        ),
        teacher_recorders=dict(
            embeddings=dict(type='MethodOutputs', source='embed'), lut=dict(type='Attribute', source='memory.lut')
        ),
        distill_losses=dict(
            loss_probability=dict(type='ResponseLoss', loss_weight=100.0, reverse=True),
            loss_pairs=dict(type='RelationLoss', beta=2.0, normalize_rows=True, loss_weight=100.0),  # 25 x squared error
            loss_triplets=dict(type='TripletRelationLoss', margin=0.3, loss_weight=1.0),
        ),
        loss_forward_mappings=dict(
            loss_probability=dict(
                student_lut=dict(from_student=True, recorder='lut'),
                teacher_lut=dict(from_student=False, recorder='lut'),
                student=dict(from_student=True, recorder='embeddings'),
                teacher=dict(from_student=False, recorder='embeddings'),
            ),
            loss_pairs=dict(
                student=dict(from_student=True, recorder='embeddings'), teacher=dict(from_student=False, recorder='embeddings')
            ),
            loss_triplets=dict(
                student=dict(from_student=True, recorder='embeddings'), teacher=dict(from_student=False, recorder='embeddings')
            ),
        ),
    ),
)
