"""What the engine inspector tells in three versions, in the form that NVIDIA documents.

Written after the developer guides of 8.6 and 10 and the migration guide to 11, since no GPU was at
hand: the keys and the wordings of types are theirs, the layers are those of a small stage.
"""

import json

VECTORISED = 'Thirty-two wide channel vectorized row major Int8 format'
IMAGE, FEATURES, LOGITS = [1, 28, 28, 1], [1, 8, 14, 14], [1, 10]
KERNEL = 'sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32'


def old_tensor(name, shape, words):
    return {'Name': name, 'Location': 'Device', 'Dimensions': shape, 'Format/Datatype': words}


# TensorRT 8.6: types in whole sentences.
IN_8_6 = {
    'Layers': [
        {
            'Name': 'Cast_0 + Conv_1 + Relu_2',
            'LayerType': 'CaskConvolution',
            'Inputs': [old_tensor('image', IMAGE, 'Row major linear UInt8 format')],
            'Outputs': [
                old_tensor(
                    'features',
                    FEATURES,
                    VECTORISED,
                )
            ],
            'ParameterType': 'Convolution',
            'Kernel': [3, 3],
            'Weights': {'Type': 'Int8', 'Count': 72},
            'Bias': {'Type': 'Float', 'Count': 8},
            'TacticName': KERNEL,
            'TacticValue': '0x9cb304e2edbc1221',
        },
        {
            'Name': 'Reformatting CopyNode for Input Tensor 0 to Gemm_5',
            'LayerType': 'Reformat',
            'Inputs': [
                old_tensor(
                    'features',
                    FEATURES,
                    VECTORISED,
                )
            ],
            'Outputs': [old_tensor('reformatted', FEATURES, 'Row major linear FP32')],
            'TacticValue': '0x00000000000003e8',
        },
        {
            'Name': 'Gemm_5',
            'LayerType': 'CublasConvolution',
            'Inputs': [old_tensor('reformatted', FEATURES, 'Row major linear FP32')],
            'Outputs': [old_tensor('logits', LOGITS, 'Row major linear FP32')],
        },
    ],
    'Bindings': ['image', 'features', 'logits'],
}
# TensorRT 10: types short, the nodes of the ONNX file told.
IN_10 = {
    'Layers': [
        {
            'Name': '__myl_CastTranMul_myl0_0',
            'LayerType': 'kgen',
            'Inputs': [old_tensor('image', IMAGE, 'UInt8')],
            'Outputs': [old_tensor('__mye12', FEATURES, 'Half')],
            'TacticName': '__myl_CastTranMul_0x1f',
            'StreamId': 0,
            'Metadata': '[ONNX Layer: /Cast][ONNX Layer: /Transpose][ONNX Layer: /Mul]',
        },
        {
            'Name': '/head/Gemm_myl0_1',
            'LayerType': 'gemm',
            'Inputs': [old_tensor('__mye12', FEATURES, 'Half')],
            'Outputs': [old_tensor('logits', LOGITS, 'Float')],
            'TacticName': 'sm80_xmma_gemm_f16f32_f16f32_f32_tn_n_tilesize32x32x64',
            'StreamId': 0,
            'Metadata': '[ONNX Layer: /head/Gemm]',
        },
    ],
    'Bindings': ['image', 'logits'],
}


def new_tensor(name, shape, dtype):
    return {'Name': name, 'Dimensions': shape, 'Format': 'Row major linear', 'Datatype': dtype}


# TensorRT 11: format and type apart, and the ends of the engine told in full.
IN_11 = {
    'Layers': [
        {
            'Name': '__myl_CastTranMul_myl0_0',
            'LayerType': 'kgen',
            'Inputs': [new_tensor('image', IMAGE, 'UInt8')],
            'Outputs': [new_tensor('__mye12', FEATURES, 'BFloat16')],
            'TacticName': '__myl_CastTranMul_0x1f',
            'Metadata': '[ONNX Layer: /Cast]',
        },
        {
            'Name': '/head/Gemm_myl0_1',
            'LayerType': 'gemm',
            'Inputs': [new_tensor('__mye12', FEATURES, 'BFloat16')],
            'Outputs': [new_tensor('logits', LOGITS, 'Float')],
        },
    ],
    'I/O Tensors': [
        {'Name': 'image', 'IOMode': 'Input', 'DataType': 'UInt8', 'Dimensions': IMAGE},
        {'Name': 'logits', 'IOMode': 'Output', 'DataType': 'Float', 'Dimensions': LOGITS},
    ],
}
# Any version, built with less verbosity.
NAMES_ONLY = {'Layers': ['Conv_1 + Relu_2', 'Gemm_5'], 'Bindings': ['image', 'logits']}


def written(document) -> str:
    return json.dumps(document, indent=1)
