from fashionflow_core.config import EncodeOptions as EncodeOptions
from fashionflow_core.config import GenerateSettings as GenerateSettings
from fashionflow_core.config import LoadOptions as LoadOptions
from fashionflow_core.config import ModelConfig as ModelConfig
from fashionflow_core.config import SigningOptions as SigningOptions
from fashionflow_core.diffusion.cost_estimate import RunCost as RunCost
from fashionflow_core.errors import FashionFlowError as FashionFlowError
from fashionflow_core.errors import FashionFlowWarning as FashionFlowWarning
from fashionflow_core.errors import UsageError as UsageError
from fashionflow_core.pipeline import Clip as Clip
from fashionflow_core.pipeline import FashionFlowPipeline as FashionFlowPipeline
from fashionflow_core.pipeline import load as load
from fashionflow_core.store.registry import list_models as list_models
from fashionflow_core.video.finishing import FinishOptions as FinishOptions
from fashionflow_core.video.overlays import EndCard as EndCard
from fashionflow_core.video.overlays import LogoOptions as LogoOptions

__version__: str
__all__: list[str]
