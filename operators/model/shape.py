"""What a model is: one frozen value that says every size and every choice of the one block that all families share.

    family        norm  positions      attention          inner layer      besides
    ModernBERT    pre   rotary         local and global   gated gelu       a norm after the embedding, no biases
    BERT          post  learned        global             gelu             biases, token types
    RoBERTa       post  learned + 2    global             gelu             one token type
    ELECTRA       post  learned        global             gelu             embeddings narrower than the stack
    ALBERT        post  learned        global             gelu (tanh)      one block for all layers, narrow embeddings
    DeBERTa       post  disentangled   global             gelu             absolute positions at the end (`enhanced`)
    GPT-2         pre   learned        causal             gelu (tanh)      biases
    T5            pre   buckets        global, causal     gated gelu       encoder and decoder, RMS norms
    Switch        pre   buckets        global, causal     experts, relu    T5 with experts in every second block

Promises: two models of one shape have the same weights by name. Refuses what no block can be.
"""

from dataclasses import dataclass

CHOICES = {
    "stack": ("encoder", "decoder", "pair"),
    "norm": ("pre", "post"),
    "positions": ("rotary", "learned", "buckets", "alibi", "disentangled", "none"),
    "act": ("gelu", "gelu_tanh", "relu", "silu"),
}


@dataclass(frozen=True)
class Shape:
    """Sizes and choices; the defaults are ModernBERT's. Widths in numbers, lengths in tokens, rates in shares."""

    vocabulary: int
    width: int
    layers: int  # of the encoder, where there are an encoder and a decoder
    heads: int
    ff: int  # inner width of the layer behind attention; of one half where it is gated
    length: int = 512  # the longest document; so many learned positions

    stack: str = "encoder"  # decoder: causal; pair: an encoder, and a decoder that sees it
    decoder: int = 0  # layers of a pair's decoder
    head: int = 0  # width of an attention head; 0: width / heads

    norm: str = "pre"  # before what is added to the residual stream, or behind the sum
    rms: bool = False  # root mean square only: no mean taken off, no bias
    eps: float = 1e-5
    embedding_norm: bool = True
    first_norm: bool = False  # whether the first block norms what it gets; needless behind an embedding's norm
    final_norm: bool = True
    bias: bool = False  # of linear layers and norms

    positions: str = "rotary"
    offset: int = 0  # the learned position of a document's first token
    theta: float = 10_000.0  # wavelengths of rotary positions in layers that see all
    theta_local: float = 10_000.0
    buckets: int = 32  # of distances: T5's in both directions together, DeBERTa's in each
    distance: int = 128  # from which on all lie in the last bucket; 0: DeBERTa's buckets are the distances themselves
    scaled: bool = True  # scores divided by the root of a head's width; T5 learns that instead
    qk_norm: bool = False
    enhanced: int = 0  # passes of the last block with absolute positions in the question: DeBERTa's decoder has 2
    absolute: bool = False  # learned positions beside tokens as well, where positions are disentangled
    far_norm: bool = True  # a norm over the embeddings of disentangled distances
    far_own: bool = False  # which are projected by weights of their own, not by those of queries and keys
    span: int = 0  # places that DeBERTa-v2-xlarge's convolution beside the first block sees; 0: it has none

    window: int = 0  # tokens that local layers see to either side
    every: int = 3  # each so-manieth layer, the first among them, sees all

    act: str = "gelu"
    gated: bool = True
    experts: int = 0
    sparse: int = 2  # each so-manieth block has experts, the second of each group
    capacity: float = 1.25  # tokens an expert takes of a document, as a multiple of an equal share; 0: all

    shared: bool = False  # one block called `layers` times
    embedding: int = 0  # width of embeddings; 0: that of the stack
    types: int = 0  # token types; all tokens here have type 0 unless told

    transform: bool = True  # a dense layer, activation and norm before the vocabulary
    head_bias: bool = True
    tied: bool = True  # the vocabulary's weights are those of the embedding
    shrunk: bool = False  # states divided by the root of the width before a tied vocabulary (T5)
    pooler: bool = False  # BERT's dense tanh layer on the first token, and two logits: does the second part follow?
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} of a model is {getattr(self, name)!r}; choose one of {', '.join(known)}")
        for name in ("vocabulary", "width", "layers", "heads", "ff", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a model is {getattr(self, name)}; give at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout of a model is {self.dropout}; give a share below 1")
        if not self.head and self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads; choose other heads")
        if self.positions == "rotary" and self.head_width % 2:
            raise ValueError(f"heads of width {self.head_width} cannot be rotated; choose an even width a head")
        if (self.stack == "pair") != bool(self.decoder):
            raise ValueError(f"a {self.stack} with {self.decoder} decoder layers is none; a pair has some, others none")
        if (self.enhanced or self.absolute or self.far_own) and self.positions != "disentangled":
            raise ValueError(
                f"enhanced, absolute and far_own belong to disentangled positions, not {self.positions}; leave them out"
            )
        if self.span and not self.span % 2:
            raise ValueError(f"a convolution over {self.span} places has no middle; give an odd number")
        if self.experts == 1 or (self.experts and self.sparse < 1):
            raise ValueError(f"{self.experts} experts in each {self.sparse}th block are none; give two or more")
        if self.experts and self.gated:
            raise ValueError("experts here have one plain layer each; set gated to false")

    @property
    def head_width(self) -> int:
        return self.head or self.width // self.heads

    @property
    def embedded(self) -> int:
        """Width of the embeddings."""
        return self.embedding or self.width

    def local(self, layer: int) -> bool:
        return bool(self.window) and layer % self.every != 0

    def sparse_at(self, layer: int) -> bool:
        return bool(self.experts) and layer % self.sparse == min(1, self.sparse - 1)
