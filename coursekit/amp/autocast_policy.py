"""Say which operation runs in which dtype under autocast: one table per device.

    >>> rule_for("linear", "cpu"), rule_for("softmax", "cpu"), rule_for("softmax", "cuda")
    ('lower', None, 'fp32_out')

    LOWER     the inputs are cast to the region's dtype: matrix products and convolutions, which gain speed
    FP32      the inputs are cast to float32: operations that overflow or lose digits in 16 bits
    FP32_OUT  the inputs stay, the result is float32, unless the caller names a dtype: sums and softmax
    PROMOTE   the inputs are cast to the widest dtype among them: operations that need one dtype for all
    REFUSE    the operation raises: 16-bit gradients of it cannot be trusted

An operation in no list is left alone: it runs in the dtype of its inputs (relu, add, gelu, dropout).

The two devices differ more than their common name suggests. On CUDA exp, softmax, layer_norm, sum and most
losses leave 16 bits; on the CPU they keep the dtype of their inputs, and cat and stack promote. Left out: the
casts themselves (`autocast`).

Sources: PyTorch, Automatic Mixed Precision package, sections "CUDA Ops ..." and "CPU Ops that ..."
(https://docs.pytorch.org/docs/stable/amp.html); the lists that the C++ kernels are registered from are the
macros AT_FORALL_* in ATen/autocast_mode.h, shipped with torch, and TORCH_LIBRARY_IMPL(aten, AutocastCPU) in
ATen/autocast_mode.cpp, which is not shipped: the tests probe every operation instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

Rule = Literal["lower", "fp32", "fp32_out", "promote", "refuse"]

LOWER: Rule = "lower"
FP32: Rule = "fp32"
FP32_OUT: Rule = "fp32_out"
PROMOTE: Rule = "promote"
REFUSE: Rule = "refuse"

_PRODUCTS = """
    matmul mm bmm addmm addbmm baddbmm linear linalg_vecdot scaled_dot_product_attention
    conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d prelu
"""

# torch lists only the products that these are made of. A table of Python calls sees the outer call.
_MADE_OF_PRODUCTS = " einsum chain_matmul linalg_multi_dot "

_CUDA_LISTS: dict[Rule, str] = {
    LOWER: _PRODUCTS
    + _MADE_OF_PRODUCTS
    + """
        einsum_without_contraction addmv addr mv convolution _convolution
        lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    """,
    FP32: """
        acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow softplus
        layer_norm native_layer_norm rms_norm group_norm frobenius_norm nuclear_norm cosine_similarity
        poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss
        smooth_l1_loss huber_loss mse_loss margin_ranking_loss multilabel_margin_loss soft_margin_loss
        triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits dist pdist cdist renorm
        logsumexp upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
        _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d
        upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
        cross_entropy_loss
    """,  # cross_entropy_loss is made of log_softmax and nll_loss, both float32
    FP32_OUT: "prod softmax log_softmax cumprod cumsum linalg_vector_norm linalg_matrix_norm sum norm",
    PROMOTE: "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put scatter_add tensordot inner",
    REFUSE: "binary_cross_entropy",
}

_CPU_LISTS: dict[Rule, str] = {
    LOWER: _PRODUCTS + _MADE_OF_PRODUCTS + " tensordot inner _addmm_activation",
    FP32: """
        avg_pool3d adaptive_avg_pool3d adaptive_max_pool3d max_pool3d fractional_max_pool2d
        fractional_max_pool3d max_unpool2d max_unpool3d replication_pad1d replication_pad2d
        replication_pad3d reflection_pad1d reflection_pad2d grid_sampler grid_sampler_2d grid_sampler_3d
        fake_quantize_per_tensor_affine
        binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss smooth_l1_loss huber_loss
        soft_margin_loss kl_div nll_loss nll_loss2d poisson_nll_loss hinge_embedding_loss
        cosine_embedding_loss margin_ranking_loss multilabel_margin_loss multi_margin_loss
        triplet_margin_loss ctc_loss cross_entropy_loss
        prod quantile nanquantile cdist trace polar view_as_complex stft
        cholesky cholesky_inverse cholesky_solve inverse pinverse qr svd geqrf orgqr ormqr lu_solve
        triangular_solve linalg_cholesky linalg_cholesky_ex linalg_cond linalg_eig linalg_eigh
        linalg_eigvals linalg_eigvalsh linalg_householder_product linalg_inv linalg_inv_ex linalg_lstsq
        linalg_matrix_rank linalg_qr linalg_solve linalg_svd linalg_svdvals linalg_tensorinv
        linalg_tensorsolve fft_fft fft_ifft fft_fft2 fft_ifft2 fft_fftn fft_ifftn fft_rfft fft_irfft
        fft_rfft2 fft_irfft2 fft_rfftn fft_irfftn fft_hfft fft_ihfft
    """,
    FP32_OUT: "",
    PROMOTE: "cat stack index_copy",
    REFUSE: "",
}

# What Python calls some operations: the name of the function there, and the operation it stands for.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "__matmul__": "matmul",
        "__pow__": "pow",
        "nll_loss_nd": "nll_loss",
        "concat": "cat",
        "concatenate": "cat",
    }
)


def _table(lists: Mapping[Rule, str]) -> Mapping[str, Rule]:
    """{rule: names in a string} inverted: {name: rule}, read-only."""
    return MappingProxyType({name: rule for rule, names in lists.items() for name in names.split()})


POLICY: Mapping[str, Mapping[str, Rule]] = MappingProxyType(
    {"cpu": _table(_CPU_LISTS), "cuda": _table(_CUDA_LISTS)}
)


def operation_name(function: str, args: tuple = (), kwargs: Mapping[str, Any] | None = None) -> str:
    """The operation that a call stands for, named as in the tables.

    Two functions stand for several operations: pad for one per mode, and einsum for a product or, if no index
    that two operands share is summed over, for an element-wise multiplication.

    >>> operation_name("__matmul__"), operation_name("mm.default")
    ('matmul', 'mm')
    >>> operation_name("pad", (None, (1, 1)), {"mode": "reflect"})
    'reflection_pad1d'
    >>> operation_name("einsum", ("i,j->ij",)), operation_name("einsum", ("ij,jk->ik",))
    ('einsum_without_contraction', 'einsum')
    """
    name = function.split(".")[0]  # torch.ops.aten.mm.default is called "mm.default"
    kwargs = kwargs or {}
    if name == "pad":
        sides, mode = (*args, *[None] * 3)[1:3]  # pad(input, pad, mode), by position or by name
        sides = sides or kwargs["pad"]
        kinds = {"reflect": "reflection", "replicate": "replication"}
        kind = kinds.get(mode or kwargs.get("mode"), "constant")
        return f"{kind}_pad{len(sides) // 2}d"  # two sides per dimension
    if name == "einsum" and not _contracts(args[0]):
        return "einsum_without_contraction"
    return ALIASES.get(name, name)


def _contracts(equation: str) -> bool:
    """Whether an einsum sums over an index that two operands share: then it consists of matrix products."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    operands = inputs.split(",")
    shared = {i for i in inputs if i.isalpha() and sum(i in operand for operand in operands) > 1}
    if not arrow:  # every shared index is summed over
        return bool(shared)
    return bool(shared - set(output))


def rule_for(operation: str, device_type: str) -> Rule | None:
    """The rule of an operation, or of the Python function that stands for it; None: autocast leaves it alone.

    >>> rule_for("__matmul__", "cpu"), rule_for("relu", "cuda")
    ('lower', None)

    Raises ValueError for a device without a table.
    """
    return policy_of(device_type).get(ALIASES.get(operation, operation))


def policy_of(device_type: str) -> Mapping[str, Rule]:
    """The table of a device, {operation: rule}. Raises ValueError for a device without one."""
    if device_type not in POLICY:
        raise ValueError(
            f"expected a device out of {sorted(POLICY)}, got {device_type!r}; name the kind without an index"
        )
    return POLICY[device_type]
