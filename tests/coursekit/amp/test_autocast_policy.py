"""Every operation of the CPU table, and a choice of those in none, against torch.autocast: dtypes and bits."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from coursekit.amp.autocast import autocast
from coursekit.amp.autocast_policy import POLICY
from coursekit.amp.recorder import Recorder

LOW = [torch.bfloat16, torch.float16]


class Maker:
    """Makes the same tensors for every caller: dtype is the one to come in with."""

    def __init__(self, dtype):
        self.dtype, self._generator = dtype, torch.Generator().manual_seed(0)
        self.leaves = []

    def __call__(self, *shape):
        self.leaves.append(torch.randn(*shape, generator=self._generator).to(self.dtype).requires_grad_())
        return self.leaves[-1]

    def spd(self, n=4):
        """A symmetric positive definite matrix, [n, n]."""
        a = torch.randn(n, n, generator=self._generator)
        return (a @ a.T + n * torch.eye(n)).to(self.dtype)

    def unit(self, *shape):
        return torch.rand(*shape, generator=self._generator).to(self.dtype)

    def factor(self, n=4):
        return torch.linalg.cholesky(self.spd(n).float()).to(self.dtype)


SIGNS = torch.tensor([1.0, -1.0, 1.0])
CLASSES = torch.tensor([0, 2, 1])

LOWER_CASES = {
    "matmul": lambda m: m(2, 3, 4) @ m(4, 5),
    "mm": lambda m: torch.mm(m(3, 4), m(4, 5)),
    "bmm": lambda m: torch.bmm(m(2, 3, 4), m(2, 4, 5)),
    "addmm": lambda m: torch.addmm(m(5), m(3, 4), m(4, 5)),
    "addbmm": lambda m: torch.addbmm(m(3, 5), m(2, 3, 4), m(2, 4, 5)),
    "baddbmm": lambda m: torch.baddbmm(m(2, 3, 5), m(2, 3, 4), m(2, 4, 5), beta=0.5),
    "linear": lambda m: F.linear(m(3, 4), m(5, 4), m(5)),
    "linalg_vecdot": lambda m: torch.linalg.vecdot(m(3, 4), m(3, 4)),
    "scaled_dot_product_attention": lambda m: F.scaled_dot_product_attention(
        m(1, 2, 3, 4), m(1, 2, 3, 4), m(1, 2, 3, 4), is_causal=True
    ),
    "conv1d": lambda m: F.conv1d(m(1, 2, 8), m(3, 2, 3), m(3), padding="same"),
    "conv2d": lambda m: F.conv2d(m(1, 2, 8, 8), m(3, 2, 3, 3), m(3), stride=2),
    "conv3d": lambda m: F.conv3d(m(1, 2, 4, 4, 4), m(3, 2, 3, 3, 3)),
    "conv_tbc": lambda m: torch.conv_tbc(m(5, 1, 2), m(3, 2, 4), m(4)),
    "conv_transpose1d": lambda m: F.conv_transpose1d(m(1, 2, 8), m(2, 3, 3)),
    "conv_transpose2d": lambda m: F.conv_transpose2d(m(1, 2, 4, 4), m(2, 3, 3, 3)),
    "conv_transpose3d": lambda m: F.conv_transpose3d(m(1, 2, 4, 4, 4), m(2, 3, 3, 3, 3)),
    "prelu": lambda m: F.prelu(m(3, 4), m(1)),
    "_addmm_activation": lambda m: torch._addmm_activation(m(5).detach(), m(3, 4).detach(), m(4, 5).detach()),
}

# made of products inside: torch casts those, coursekit the whole, so the casts come at another place
COMPOSED_CASES = {
    "einsum": lambda m: torch.einsum("bij,bjk->bik", m(2, 3, 4), m(2, 4, 5)),
    "einsum_attention": lambda m: torch.einsum("bthd,bshd->bhts", m(2, 3, 2, 4), m(2, 3, 2, 4)),
    "einsum_of_three": lambda m: torch.einsum("ij,jk,kl->il", m(3, 4), m(4, 2), m(2, 5)),
    "tensordot": lambda m: torch.tensordot(m(3, 4, 5), m(5, 4), dims=([1, 2], [1, 0])),
    "inner": lambda m: torch.inner(m(3, 4), m(2, 4)),
    "chain_matmul": lambda m: torch.chain_matmul(m(3, 4), m(4, 5), m(5, 2)),
    "linalg_multi_dot": lambda m: torch.linalg.multi_dot([m(3, 4), m(4, 5), m(5, 2)]),
}

FP32_CASES = {
    "avg_pool3d": lambda m: F.avg_pool3d(m(1, 2, 4, 4, 4), 2),
    "adaptive_avg_pool3d": lambda m: F.adaptive_avg_pool3d(m(1, 2, 4, 4, 4), 2),
    "adaptive_max_pool3d": lambda m: F.adaptive_max_pool3d(m(1, 2, 4, 4, 4), 2),
    "max_pool3d": lambda m: F.max_pool3d(m(1, 2, 4, 4, 4), 2),
    "fractional_max_pool2d": lambda m: F.fractional_max_pool2d(
        m(1, 2, 6, 6), 2, output_size=3, _random_samples=m.unit(1, 2, 2)
    ),
    "fractional_max_pool3d": lambda m: F.fractional_max_pool3d(
        m(1, 2, 6, 6, 6), 2, output_size=3, _random_samples=m.unit(1, 2, 3)
    ),
    "max_unpool2d": lambda m: F.max_unpool2d(m(1, 1, 2, 2), torch.tensor([[[[0, 3], [8, 11]]]]), 2),
    "max_unpool3d": lambda m: F.max_unpool3d(m(1, 1, 1, 2, 2), torch.tensor([[[[[0, 3], [8, 11]]]]]), 2),
    "replication_pad1d": lambda m: F.pad(m(1, 2, 4), (1, 1), mode="replicate"),
    "replication_pad2d": lambda m: F.pad(m(1, 2, 4, 4), (1, 1, 1, 1), mode="replicate"),
    "replication_pad3d": lambda m: F.pad(m(1, 2, 4, 4, 4), (1,) * 6, mode="replicate"),
    "reflection_pad1d": lambda m: F.pad(m(1, 2, 4), (1, 1), mode="reflect"),
    "reflection_pad2d": lambda m: F.pad(m(1, 2, 4, 4), (1, 1, 1, 1), mode="reflect"),
    "grid_sampler": lambda m: F.grid_sample(m(1, 2, 4, 4), m(1, 3, 3, 2), align_corners=False),
    "grid_sampler_2d": lambda m: torch.grid_sampler_2d(m(1, 2, 4, 4), m(1, 3, 3, 2), 0, 0, False),
    "grid_sampler_3d": lambda m: torch.grid_sampler_3d(m(1, 2, 4, 4, 4), m(1, 3, 3, 3, 3), 0, 0, False),
    "binary_cross_entropy": lambda m: F.binary_cross_entropy(m.unit(3), m.unit(3)),
    "binary_cross_entropy_with_logits": lambda m: F.binary_cross_entropy_with_logits(m(3), m.unit(3)),
    "mse_loss": lambda m: F.mse_loss(m(3), m(3)),
    "l1_loss": lambda m: F.l1_loss(m(3), m(3)),
    "smooth_l1_loss": lambda m: F.smooth_l1_loss(m(3), m(3)),
    "huber_loss": lambda m: F.huber_loss(m(3), m(3)),
    "soft_margin_loss": lambda m: F.soft_margin_loss(m(3), SIGNS),
    "kl_div": lambda m: F.kl_div(m(3, 4), m.unit(3, 4), reduction="batchmean"),
    "nll_loss": lambda m: F.nll_loss(m(3, 4), CLASSES),
    "nll_loss2d": lambda m: torch._C._nn.nll_loss2d(m(1, 4, 1, 3), CLASSES.view(1, 1, 3)),
    "poisson_nll_loss": lambda m: F.poisson_nll_loss(m(3), m.unit(3)),
    "hinge_embedding_loss": lambda m: F.hinge_embedding_loss(m(3), SIGNS),
    "cosine_embedding_loss": lambda m: F.cosine_embedding_loss(m(3, 4), m(3, 4), SIGNS),
    "margin_ranking_loss": lambda m: F.margin_ranking_loss(m(3), m(3), SIGNS),
    "multilabel_margin_loss": lambda m: F.multilabel_margin_loss(m(1, 3), torch.tensor([[0, 2, -1]])),
    "multi_margin_loss": lambda m: F.multi_margin_loss(m(3, 4), CLASSES),
    "triplet_margin_loss": lambda m: F.triplet_margin_loss(m(3, 4), m(3, 4), m(3, 4)),
    "ctc_loss": lambda m: F.ctc_loss(
        F.log_softmax(m(5, 1, 4), -1), torch.tensor([[1, 2]]), torch.tensor([5]), torch.tensor([2])
    ),
    "cross_entropy_loss": lambda m: F.cross_entropy(m(3, 4), CLASSES, label_smoothing=0.1),
    "prod": lambda m: m(3, 4).prod(1),
    "quantile": lambda m: torch.quantile(m(3, 4), 0.3, dim=1),
    "nanquantile": lambda m: torch.nanquantile(m(3, 4), 0.3, dim=1),
    "cdist": lambda m: torch.cdist(m(3, 4), m(5, 4)),
    "trace": lambda m: m(3, 3).trace(),
    "polar": lambda m: torch.polar(m.unit(3), m.unit(3)),
    "view_as_complex": lambda m: torch.view_as_complex(m.unit(3, 2)),
    "stft": lambda m: torch.stft(m(64), 16, window=m.unit(16), return_complex=True),
    "cholesky": lambda m: torch.cholesky(m.spd()),
    "cholesky_inverse": lambda m: torch.cholesky_inverse(m.factor()),
    "cholesky_solve": lambda m: torch.cholesky_solve(m(4, 2), m.factor()),
    "inverse": lambda m: torch.inverse(m.spd()),
    "pinverse": lambda m: torch.pinverse(m.spd()),
    "qr": lambda m: torch.qr(m.spd()),
    "svd": lambda m: torch.svd(m.spd()),
    "geqrf": lambda m: torch.geqrf(m.spd()),
    "orgqr": lambda m: torch.orgqr(m.factor(), m.unit(4)),
    "ormqr": lambda m: torch.ormqr(m.factor(), m.unit(4), m.spd()),
    "lu_solve": lambda m: torch.lu_solve(m(4, 2), m.spd(), torch.arange(1, 5, dtype=torch.int32)),
    "triangular_solve": lambda m: torch.triangular_solve(m(4, 2), m.factor(), upper=False),
    "linalg_cholesky": lambda m: torch.linalg.cholesky(m.spd()),
    "linalg_cholesky_ex": lambda m: torch.linalg.cholesky_ex(m.spd()),
    "linalg_cond": lambda m: torch.linalg.cond(m.spd()),
    "linalg_eig": lambda m: torch.linalg.eig(m.spd()),
    "linalg_eigh": lambda m: torch.linalg.eigh(m.spd()),
    "linalg_eigvals": lambda m: torch.linalg.eigvals(m.spd()),
    "linalg_eigvalsh": lambda m: torch.linalg.eigvalsh(m.spd()),
    "linalg_householder_product": lambda m: torch.linalg.householder_product(m.factor(), m.unit(4)),
    "linalg_inv": lambda m: torch.linalg.inv(m.spd()),
    "linalg_inv_ex": lambda m: torch.linalg.inv_ex(m.spd()),
    "linalg_lstsq": lambda m: torch.linalg.lstsq(m.spd(), m(4, 2)).solution,
    "linalg_matrix_rank": lambda m: torch.linalg.matrix_rank(m.spd()),
    "linalg_qr": lambda m: torch.linalg.qr(m.spd()),
    "linalg_solve": lambda m: torch.linalg.solve(m.spd(), m(4, 2)),
    "linalg_svd": lambda m: torch.linalg.svd(m.spd()),
    "linalg_svdvals": lambda m: torch.linalg.svdvals(m.spd()),
    "linalg_tensorinv": lambda m: torch.linalg.tensorinv(m.spd(), ind=1),
    "linalg_tensorsolve": lambda m: torch.linalg.tensorsolve(m.spd(), m(4)),
    "fake_quantize_per_tensor_affine": lambda m: torch.fake_quantize_per_tensor_affine(m(4), 0.1, 0, 0, 255),
    "fft_fft": lambda m: torch.fft.fft(m(8)),
    "fft_ifft": lambda m: torch.fft.ifft(m(8)),
    "fft_fft2": lambda m: torch.fft.fft2(m(4, 4)),
    "fft_ifft2": lambda m: torch.fft.ifft2(m(4, 4)),
    "fft_fftn": lambda m: torch.fft.fftn(m(4, 4)),
    "fft_ifftn": lambda m: torch.fft.ifftn(m(4, 4)),
    "fft_rfft": lambda m: torch.fft.rfft(m(8)),
    "fft_irfft": lambda m: torch.fft.irfft(m(8)),
    "fft_rfft2": lambda m: torch.fft.rfft2(m(4, 4)),
    "fft_irfft2": lambda m: torch.fft.irfft2(m(4, 4)),
    "fft_rfftn": lambda m: torch.fft.rfftn(m(4, 4)),
    "fft_irfftn": lambda m: torch.fft.irfftn(m(4, 4)),
    "fft_hfft": lambda m: torch.fft.hfft(m(8)),
    "fft_ihfft": lambda m: torch.fft.ihfft(m(8)),
}

PROMOTE_CASES = {
    "cat": lambda m: torch.cat([m(3), torch.ones(2)]),
    "stack": lambda m: torch.stack([m(3), torch.ones(3)]),
    "index_copy": lambda m: torch.index_copy(m(3, 2), 0, torch.tensor([0]), torch.ones(1, 2)),
}

UNTOUCHED_CASES = {
    "softmax": lambda m: F.softmax(m(3, 4), -1),
    "softmax_dtype": lambda m: F.softmax(m(3, 4), -1, dtype=torch.float32),
    "log_softmax": lambda m: F.log_softmax(m(3, 4), -1),
    "layer_norm": lambda m: F.layer_norm(m(3, 4), (4,), m(4), m(4)),
    "rms_norm": lambda m: F.rms_norm(m(3, 4), (4,), m(4)),
    "exp": lambda m: m(3).exp(),
    "pow": lambda m: m(3) ** 2,
    "rpow": lambda m: 2 ** m(3),
    "rsqrt": lambda m: m.unit(3).rsqrt(),
    "sum": lambda m: m(3).sum(),
    "mean": lambda m: m(3).mean(),
    "norm": lambda m: m(3).norm(),
    "cumsum": lambda m: m(3).cumsum(0),
    "add": lambda m: m(3) + torch.ones(3),
    "relu": lambda m: F.relu(m(3)),
    "gelu": lambda m: F.gelu(m(3)),
    "silu": lambda m: F.silu(m(3)),
    "embedding": lambda m: F.embedding(CLASSES, m(3, 4)),
    "dot": lambda m: torch.dot(m(3), m(3)),
    "mv": lambda m: torch.mv(m(3, 4), m(4)),
    "einsum_of_one": lambda m: torch.einsum("ij->ji", m(3, 4)),
    "einsum_without_contraction": lambda m: torch.einsum("bi,bj->bij", m(3, 4), m(3, 2)),
    "pad": lambda m: F.pad(m(3, 4), (1, 1)),
    "unflatten": lambda m: m(3, 4).unflatten(-1, (2, 2)),
    "mm_double": lambda m: torch.mm(m(3, 4).double(), m(4, 5).double()),
    "mm_out": lambda m: torch.mm(m(3, 4).detach(), m(4, 5).detach(), out=torch.empty(3, 5, dtype=m.dtype)),
    "addmm_": lambda m: m(3, 5).detach().addmm_(m(3, 4).detach(), m(4, 5).detach()),
}

LISTED_CASES = LOWER_CASES | COMPOSED_CASES | FP32_CASES | PROMOTE_CASES
CASES = LISTED_CASES | UNTOUCHED_CASES
NOT_REPEATABLE = {"linalg_lstsq"}  # the last bits differ from run to run, with torch alone too


def outcome(region, case, dtype):
    """(rows of forward and backward, outputs and gradients), or what kind of error came."""
    maker = Maker(dtype)
    with Recorder() as recorder:
        try:
            with region:
                out = case(maker)
        except RuntimeError as error:
            return "raised", type(error)
        outs = [t for t in (out if isinstance(out, (tuple, list)) else [out]) if t is not None]
        if outs[0].requires_grad and outs[0].is_floating_point():
            with recorder.backward():
                outs[0].backward(torch.ones_like(outs[0]))
    return recorder.rows, outs + [t.grad for t in maker.leaves if t.grad is not None]


def differences(ours, theirs, *, rows=True, exact=True):
    """What differs between two outcomes, in words: nothing is an empty list."""
    if "raised" in (ours[0], theirs[0]):
        return [] if ours == theirs else [f"ours {ours}, theirs {theirs}"]
    found = [f"ours {a}, theirs {b}" for a, b in zip(ours[0], theirs[0], strict=False) if rows and a != b]
    if rows and len(ours[0]) != len(theirs[0]):
        found.append(f"{len(ours[0])} rows, theirs {len(theirs[0])}")
    for i, (a, b) in enumerate(zip(ours[1], theirs[1], strict=True)):
        equal = torch.equal if exact else torch.allclose
        if a.dtype != b.dtype or not equal(a, b):
            found.append(f"tensor {i}: ours {a.dtype}, theirs {b.dtype}")
    return found


@pytest.mark.filterwarnings("ignore")  # deprecated operations are in the table too
@pytest.mark.parametrize("low", LOW, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_an_operation_runs_as_under_torch(name, low):
    for dtype in (torch.float32, low):
        ours = outcome(autocast("cpu", low), CASES[name], dtype)
        theirs = outcome(torch.autocast("cpu", low), CASES[name], dtype)
        rows, exact = name not in COMPOSED_CASES, name not in NOT_REPEATABLE
        assert differences(ours, theirs, rows=rows, exact=exact) == [], dtype


def test_every_operation_of_the_cpu_table_has_a_case():
    assert set(POLICY["cpu"]) <= set(LISTED_CASES)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(set(LISTED_CASES) & set(POLICY["cpu"])))
def test_every_entry_of_the_cpu_table_is_needed(name):
    """Without its entry, the operation runs otherwise than under torch, for inputs of one dtype or the other."""
    policy = {op: rule for op, rule in POLICY["cpu"].items() if op != name}
    case = CASES[name]
    found = [
        differences(
            outcome(autocast("cpu", torch.bfloat16, policy=policy), case, dtype),
            outcome(torch.autocast("cpu", torch.bfloat16), case, dtype),
        )
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert any(found)


LEFT_ALONE = ["softmax", "log_softmax", "layer_norm", "rms_norm", "exp", "pow", "sum", "mean", "gelu", "relu"]


@pytest.mark.parametrize("rule", ["lower", "fp32"])
@pytest.mark.parametrize("name", LEFT_ALONE)
def test_a_wrong_entry_shows(name, rule):
    """An operation that the CPU leaves alone, entered in a list: the dtypes differ from torch's."""
    region = autocast("cpu", torch.bfloat16, policy={**POLICY["cpu"], name: rule})
    dtype = torch.float32 if rule == "lower" else torch.bfloat16
    theirs = outcome(torch.autocast("cpu", torch.bfloat16), CASES[name], dtype)
    assert differences(outcome(region, CASES[name], dtype), theirs)


def kernels(key):
    """The operations, overloads aside, that have an autocast kernel of their own in this torch."""
    registered = torch._C._dispatch_get_registrations_for_dispatch_key(key)
    return {name.removeprefix("aten::").split(".")[0] for name in registered if name.startswith("aten::")}


def test_the_cpu_table_names_what_torch_has_kernels_for():
    # not called from Python: the fused layers' inner parts
    inner_parts = {
        "_convolution", "mkldnn_rnn_layer", "_native_multi_head_attention", "_lu_with_info",
        "_grid_sampler_2d_cpu_fallback", "multilabel_margin_loss_forward",
    }  # fmt: skip
    composed = {"einsum", "tensordot", "inner", "chain_matmul", "linalg_multi_dot"}
    assert kernels("AutocastCPU") - inner_parts == set(POLICY["cpu"]) - composed


CUDA_INNER_PARTS = {
    "_scaled_dot_product_flash_attention", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell",
    "cudnn_convolution", "cudnn_convolution_transpose",
}  # fmt: skip


def test_the_cuda_table_names_what_torch_has_kernels_for():
    composed = {"inner", "cross_entropy_loss", "einsum_without_contraction"}
    assert kernels("AutocastCUDA") - CUDA_INNER_PARTS == set(POLICY["cuda"]) - composed


MACROS = {
    "AT_FORALL_LOWER_PRECISION_FP": "lower",
    "AT_FORALL_FP32": "fp32",
    "AT_FORALL_FP32_SET_OPT_DTYPE": "fp32_out",
    "AT_FORALL_PROMOTE": "promote",
}


@pytest.mark.parametrize("macro", MACROS)
def test_the_cuda_lists_are_those_of_torch_s_header(macro):
    header = (Path(torch.__file__).parent / "include/ATen/autocast_mode.h").read_text()
    body = re.search(rf"#define {macro}\(_\)((?:.*\\\n)+.*)", header)[1]
    names = set(re.findall(r"_\((\w+)", body)) - CUDA_INNER_PARTS
    assert len(names) > 5
    assert {name: POLICY["cuda"].get(name) for name in names} == dict.fromkeys(names, MACROS[macro])
