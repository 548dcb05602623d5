# GDPS's three kinds of knowledge (JVCIR 2025): feature-based on the maps that both detectors have, relation- and
# response-based on the embeddings of the batch's persons. The words 'student_level', 'teacher_level', 'student_channels',
# 'teacher_channels' and 'stride' stand for numbers that the models bring: what has them is repeated for every stride that
# both have.
_base_ = './feature.py'
persons = dict(embeddings=dict(type='MethodOutputs', source='embed'), lut=dict(type='Attribute', source='memory.lut'))

distil = dict(
    box_jitter=0.1,
    distiller=dict(
        student_recorders=dict(boxes=dict(type='Batch', source='boxes'), **persons),
        teacher_recorders=persons,
        distill_losses=dict(
            loss_feature=dict(type='PersonFeatureLoss', stride='stride', loss_weight=2.0),
            loss_relation=dict(type='RelationLoss', loss_weight=10.0),
            loss_response=dict(type='ResponseLoss', temperature=0.1, loss_weight=100.0),
        ),
        loss_forward_mappings=dict(
            loss_feature=dict(
                _delete_=True,
                student=dict(from_student=True, recorder='feats', data_idx='student_level', connector='neck'),
                teacher=dict(from_student=False, recorder='feats', data_idx='teacher_level'),
                boxes=dict(from_student=True, recorder='boxes'),
            ),
            loss_relation=dict(
                student=dict(from_student=True, recorder='embeddings'), teacher=dict(from_student=False, recorder='embeddings')
            ),
            loss_response=dict(
                student=dict(from_student=True, recorder='embeddings'),
                teacher=dict(from_student=False, recorder='embeddings'),
                student_lut=dict(from_student=True, recorder='lut'),
                teacher_lut=dict(from_student=False, recorder='lut'),
            ),
        ),
    ),
)
