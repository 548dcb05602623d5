# GDPS's three kinds of knowledge (JVCIR 2025) between two detectors with FPNs of the same strides: feature-based on every
# neck level, relation- and response-based on the embeddings of the batch's persons. Connectors are for 256 channels: a
# config with other necks sets theirs.
strides = (4, 8, 16, 32)
recorders = dict(
    feats=dict(type='MethodOutputs', source='extract_feat'),
    embeddings=dict(type='MethodOutputs', source='embed'),
    lut=dict(type='Attribute', source='memory.lut'))

distiller = dict(
    type='mmrazor.ConfigurableDistiller',
    student_recorders=dict(persons=dict(type='MethodInputs', source='embed'), **recorders),
    teacher_recorders=recorders,
    connectors={
        f'neck{level}': dict(
            type='mmrazor.ConvModuleConnector', in_channel=256, out_channel=256, kernel_size=1, act_cfg=None)
        for level in range(len(strides))
    },
    distill_losses=dict(
        loss_relation=dict(type='RelationLoss', loss_weight=10.0),
        loss_response=dict(type='ResponseLoss', temperature=0.1, loss_weight=100.0),
        **{
            f'loss_feature{level}': dict(type='PersonFeatureLoss', stride=stride, loss_weight=0.5)
            for level, stride in enumerate(strides)
        }),
    loss_forward_mappings=dict(
        loss_relation=dict(
            student=dict(from_student=True, recorder='embeddings'),
            teacher=dict(from_student=False, recorder='embeddings')),
        loss_response=dict(
            student=dict(from_student=True, recorder='embeddings'),
            teacher=dict(from_student=False, recorder='embeddings'),
            student_lut=dict(from_student=True, recorder='lut'),
            teacher_lut=dict(from_student=False, recorder='lut')),
        **{
            f'loss_feature{level}': dict(
                student=dict(from_student=True, recorder='feats', data_idx=level, connector=f'neck{level}'),
                teacher=dict(from_student=False, recorder='feats', data_idx=level),
                boxes=dict(from_student=True, recorder='persons', data_idx=1))
            for level in range(len(strides))
        }))
