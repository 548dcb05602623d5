# GDPS (JVCIR 2025) distils three kinds of knowledge at once. The feature-based loss compares every pair of feature maps of
# equal stride: channel-wise distillation, as in cwd.py. The relation-based and the response-based loss compare the
# embeddings of the batch's persons. The temperature of the responses follows from the teacher's doubt. To keep one kind only,
# set for example losses=['loss_relation'].
distil = dict(
    box_jitter=0.1,
    distiller=dict(
        type='PersonSearchDistiller',
        student_recorders=dict(
            feats=dict(type='FeatureMaps'),
            embeddings=dict(type='MethodOutputs', source='embed'),
            lut=dict(type='Attribute', source='memory.lut'),
        ),
        teacher_recorders=dict(
            feats=dict(type='FeatureMaps'),
            embeddings=dict(type='MethodOutputs', source='embed'),
            lut=dict(type='Attribute', source='memory.lut'),
        ),
        connectors=dict(neck=dict(type='mmrazor.ConvModuleConnector', kernel_size=1, act_cfg=None, per_level=True)),
        distill_losses=dict(
            loss_feature=dict(type='mmrazor.ChannelWiseDivergence', tau=1.0, loss_weight=10.0, per_level=True),
            loss_relation=dict(type='RelationLoss', loss_weight=10.0),
            loss_response=dict(type='ResponseLoss', loss_weight=100.0),
        ),
        loss_forward_mappings=dict(
            loss_feature=dict(
                preds_S=dict(from_student=True, recorder='feats', connector='neck'),
                preds_T=dict(from_student=False, recorder='feats'),
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
