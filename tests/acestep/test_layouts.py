"""Law 4: the layouts load to the same bits, and as diffusers itself loads."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import SAFE, like_turbo, uniform, weights, write_official, write_weights
from diffusers import AceStepConditionEncoder, AceStepPipeline, AceStepTransformer1DModel, AutoencoderOobleck
from diffusers.pipelines.ace_step import AceStepAudioTokenDetokenizer, AceStepAudioTokenizer
from safetensors.torch import load_file, save_file

from acetrain.acestep.layouts import Diffusers, Official, open_checkpoint
from acetrain.acestep.load import load_base, load_component, load_pipeline
from acetrain.acestep.model import EMBEDDED, VARIANTS, Released
from acetrain.acestep.weights import hash_weights, sample_weights, stamps
from acetrain.errors import Refused

CLASSES = {
    "transformer": AceStepTransformer1DModel,
    "condition_encoder": AceStepConditionEncoder,
    "audio_tokenizer": AceStepAudioTokenizer,
    "audio_token_detokenizer": AceStepAudioTokenDetokenizer,
    "vae": AutoencoderOobleck,
}


@pytest.fixture(scope="module")
def randomised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers checkpoint of the tiny shapes with random weights: no two tensors could be mistaken."""
    folder = uniform(tmp_path_factory.mktemp("diffusers") / "random")
    draw = torch.Generator().manual_seed(0)
    for component in CLASSES:
        file = folder / component / SAFE
        stored = load_file(file)
        save_file(
            {name: torch.randn(tensor.shape, generator=draw).to(tensor.dtype) for name, tensor in stored.items()}, file
        )
    return folder


@pytest.fixture(scope="module", params=[1, 3], ids=["whole", "sharded"])
def official(request: pytest.FixtureRequest, randomised: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official(tmp_path_factory.mktemp("official"), shards=request.param, source=randomised)


def released(folder: Path | str, variant: str = "", token: bool = False, checkpoints: str = "nowhere") -> Released:
    return Released(variant, str(folder), None, None, None, checkpoints, "", "", token)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("component", CLASSES)
def test_every_component_is_as_diffusers_loads_it(randomised, official, component, dtype):
    kind = CLASSES[component]
    expected = kind.from_pretrained(randomised, subfolder=component, dtype=dtype)
    for folder in (randomised, official):
        checkpoint = open_checkpoint(folder, [])
        loaded = load_component(checkpoint, kind, component, dtype, "cpu")
        for state in ("state_dict", "named_buffers"):
            ours, theirs = dict(getattr(loaded, state)()), dict(getattr(expected, state)())
            assert ours.keys() == theirs.keys()
            for name, tensor in theirs.items():
                assert ours[name].dtype == tensor.dtype and torch.equal(ours[name], tensor), name
        different = {key for key in expected.config if expected.config[key] != loaded.config.get(key)}
        assert {key for key in different if not key.startswith("_")} <= {"layer_types"}


def test_music_is_the_same_to_the_bit(randomised, official):
    def music(pipeline):
        pipeline.set_progress_bar_config(disable=True)
        draw = torch.Generator().manual_seed(0)
        made = pipeline("a", "[verse] la", 1.0, num_inference_steps=2, generator=draw, output_type="latent").audios
        return torch.as_tensor(made)

    expected = music(AceStepPipeline.from_pretrained(randomised, dtype=torch.float32))
    for folder in (randomised, official):
        assert torch.equal(music(load_pipeline(released(folder), torch.float32, "cpu")), expected)


def test_training_loads_the_dit_and_two_constants_alone(randomised, official, monkeypatch):
    opened = []
    monkeypatch.setattr("acetrain.acestep.load.safe_open", spy_on(opened))
    ours, theirs = (load_base(released(folder), torch.bfloat16) for folder in (official, randomised))
    assert torch.equal(ours.null_condition, theirs.null_condition) and ours.null_condition.dtype == torch.float32
    assert torch.equal(ours.silence, theirs.silence) and ours.silence.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in ours.dit.parameters())
    assert {key.split(".")[0] for key in opened} == {"decoder", "null_condition_emb"} | {
        name.split(".")[0] for name in theirs.dit.state_dict()
    } | {"silence_latent"}


def spy_on(opened: list[str]):
    from safetensors import safe_open

    class Spy:
        def __init__(self, *arguments, **options):
            self.file = safe_open(*arguments, **options)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def get_tensor(self, name):
            opened.append(name)
            return self.file.get_tensor(name)

    return Spy


def test_a_tensor_of_the_stored_dtype_stays_a_view_of_its_file(official):
    checkpoint = open_checkpoint(official, [])
    stored = next(iter(checkpoint.tensors("transformer").values())).stored.dtype
    dtype = {"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16}[stored]
    dit = load_component(checkpoint, AceStepTransformer1DModel, "transformer", dtype, "cpu")
    files = {str(file) for file in checkpoint.files("transformer")}
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [[int(end, 16) for end in line[0].split("-")] for line in maps if line[-1] in files]
    assert len(spans) >= len(files)
    for name, parameter in dit.named_parameters():
        assert any(start <= parameter.data_ptr() < stop for start, stop in spans), name


def test_weights_have_one_identity_in_every_layout(randomised, official, tmp_path):
    both = [open_checkpoint(folder, []) for folder in (randomised, official)]
    assert hash_weights(both[0]) == hash_weights(both[1])
    assert sample_weights(both[0], "transformer") == sample_weights(both[1], "transformer")
    assert [stamp[0] for stamp in stamps(both[1])][-1] == str(official / "silence_latent.pt")
    changed = weights(randomised)
    changed["decoder.layers.1.mlp.up_proj.weight"][0, 0] += 1
    copy = Path(shutil.copytree(official.parent, tmp_path / "copy")) / official.name
    for file in copy.glob("*.safetensors*"):
        file.unlink()
    write_weights(copy, changed, 1)
    other = open_checkpoint(copy, [])
    assert sample_weights(other, "transformer") != sample_weights(both[1], "transformer")
    torch.save(torch.load(copy / "silence_latent.pt") + 1, copy / "silence_latent.pt")
    assert hash_weights(open_checkpoint(copy, [])) != hash_weights(both[1])


def test_xl_s_token_changes_the_timbre_alone(randomised, official):
    from acetrain.acestep.load import load_condition_encoder

    plain, pooled = (
        load_condition_encoder(released(official, token=token), torch.float32, "cpu") for token in (False, True)
    )
    frames = plain.silence_latent[:, :40]
    order = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        expected = official_xl_timbre(plain.timbre_encoder, frames)
        assert torch.equal(pooled.timbre_encoder(frames, order)[0][0, 0], expected)
        assert not torch.allclose(plain.timbre_encoder(frames, order)[0][0, 0], expected, atol=1e-2)


def official_xl_timbre(encoder, frames):
    """The official XL forward, spelt out with the layers of `encoder`."""
    from diffusers.models.transformers.ace_step_transformer import _ace_step_rotary_freqs, _create_4d_mask

    cpu = torch.device("cpu")
    hidden = torch.cat([encoder.special_token, encoder.embed_tokens(frames)], dim=1)
    rotary = _ace_step_rotary_freqs(hidden.shape[1], encoder.head_dim, encoder.rope_theta, cpu, torch.float32)
    window = _create_4d_mask(hidden.shape[1], torch.float32, cpu, None, encoder.sliding_window, True, False)
    for kind, layer in zip(encoder._layer_types, encoder.layers, strict=True):
        mask = window if kind == "sliding_attention" else None
        hidden = layer(hidden_states=hidden, position_embeddings=rotary, attention_mask=mask)
    return encoder.norm(hidden)[0, 0]


@pytest.mark.parametrize(
    ("changes", "variant"),
    [
        ({"is_turbo": True, "model_version": "turbo", "encoder_hidden_size": 128}, "turbo"),
        ({"is_turbo": True, "model_version": None}, "xl_turbo"),
        ({"model_version": "sft"}, "xl_sft"),
        ({"model_version": "base"}, "xl_base"),
    ],
)
def test_a_variant_is_told_by_its_configuration(tmp_path, changes, variant):
    folder = write_official(tmp_path, **changes)
    assert released(folder).name == variant
    defaults = released(folder).defaults()
    assert defaults == VARIANTS[variant]
    assert defaults.steps == (8 if "turbo" in variant else 50)
    other = "sft" if "turbo" in variant else "turbo"
    with pytest.raises(Refused, match=f"is a {variant} by its configuration, asked for is {other}"):
        _ = released(folder, other).checkpoint


def test_a_variant_that_no_configuration_tells_is_asked_for(tmp_path):
    folder = write_official(tmp_path, model_version=None, is_turbo=False)
    with pytest.raises(Refused, match=r"model.variant: must be given, the configuration in .* tells none"):
        _ = released(folder).name
    assert released(folder, "sft").name == "sft"


def test_what_variants_share_is_found_beside_them_or_among_the_releases(tmp_path):
    folder = write_official(tmp_path / "releases")
    alone = Path(shutil.move(folder, tmp_path / "elsewhere" / "mine"))
    with pytest.raises(Refused, match=r"model: vae is not in .*\nget it: hf download ACE-Step/Ace-Step1.5 --include"):
        released(alone).config("vae")
    beside = released(alone, checkpoints=str(tmp_path / "releases"))
    assert isinstance(beside.checkpoint, Official) and beside.config("vae")["sampling_rate"]
    assert isinstance(released(EMBEDDED).checkpoint, Diffusers)


def test_a_release_that_is_missing_says_where_and_how_to_get_it(tmp_path):
    absent = Released("sft", "", None, None, None, str(tmp_path), "acestep-v15-sft", "ACE-Step/acestep-v15-sft", False)
    with pytest.raises(Refused) as refusal:
        _ = absent.checkpoint
    command = f"hf download ACE-Step/acestep-v15-sft --local-dir {tmp_path / 'acestep-v15-sft'}"
    assert str(tmp_path) in str(refusal.value) and command in str(refusal.value)
    assert "'vae/*'" in str(refusal.value)
    write_official(tmp_path)
    absent = Released("sft", "", None, None, None, str(tmp_path), "acestep-v15-sft", "ACE-Step/acestep-v15-sft", False)
    with pytest.raises(Refused) as refusal:
        _ = absent.checkpoint
    assert str(refusal.value).endswith(command)


def test_an_official_release_is_found_by_its_option(tmp_path):
    folder = write_official(tmp_path, "acestep-v15-xl-base")
    found = Released("xl_base", "", None, None, None, str(tmp_path), folder.name, "ACE-Step/x", False)
    assert found.checkpoint.folder == folder and found.name == "xl_base"


def test_official_configurations_hold_what_diffusers_would_write(randomised, official):
    for component in ("transformer", "condition_encoder", "audio_tokenizer", "audio_token_detokenizer"):
        written = json.loads((randomised / component / "config.json").read_text())
        made = open_checkpoint(official, []).config(component)
        assert {key: written[key] for key in made if key != "layer_types"} == {
            key: value for key, value in made.items() if key != "layer_types"
        }


def test_the_density_of_timesteps_is_the_checkpoint_s(tmp_path):
    from acetrain.flow.timesteps import Acestep, Uniform

    plain = {"shift": 1.0, "low": 0.0, "high": 1.0, "stratified": False}

    def acestep(mean: float | None, std: float | None) -> Acestep:
        return Acestep(**plain, mean=mean, std=std)

    folder = write_official(tmp_path / "a", timestep_mu=-0.1, timestep_sigma=0.7)
    said = open_checkpoint(folder, []).said_of_timesteps()
    assert acestep(None, None).fitted(said) == acestep(-0.1, 0.7)
    assert acestep(0.3, None).fitted(said) == acestep(0.3, 0.7)
    assert acestep(None, None).fitted(Diffusers(EMBEDDED).said_of_timesteps()) == acestep(-0.4, 1.0)
    assert Uniform(**plain).fitted(said) == Uniform(**plain)
    broken = write_official(tmp_path / "b", timestep_sigma=0)
    with pytest.raises(Refused, match=r"config.json: timestep_sigma is 0"):
        open_checkpoint(broken, []).said_of_timesteps()


def test_a_turbo_is_sampled_as_one(tmp_path, capfd):
    from acetrain.cli import main

    source = like_turbo(tmp_path / "source")
    write_official(tmp_path / "releases", "acestep-v15-turbo", source=source)
    checkpoints = f"model.checkpoints={tmp_path / 'releases'}"
    output = f"output={tmp_path / 'x.wav'}"
    assert main(["generate", "model=turbo", checkpoints, "prompt=a", "duration=0.5", output, "accelerator=cpu"]) == 0
    made = json.loads((tmp_path / "x.json").read_text())
    assert made["model"] == "turbo"
    assert made["sampling"] == {"duration": 0.5, "seed": 0, "steps": 8, "shift": 3.0, "guidance": 1.0}
    model = Released("turbo", "", None, None, None, str(tmp_path / "releases"), "acestep-v15-turbo", "x/y", False)
    assert load_pipeline(model, torch.float32, "cpu").is_turbo
