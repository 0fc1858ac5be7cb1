"""For mypy alone: the settings are typed. An ignore that ignores nothing is an error."""

from aligntune import create_sft_trainer, get_trainer


def right() -> None:
    create_sft_trainer(model_name="m", dataset_name="d", num_epochs=3, learning_rate=1e-4, use_peft=True)
    create_sft_trainer(model_name="m", train_dataset=[{"text": "a"}], lora_target_modules=["q_proj"], backend="trl")
    get_trainer("sft", model_name="m", dataset_name="d", max_steps=1)
    get_trainer("dpo", a_setting_of_a_plugin=1)


def wrong() -> None:
    create_sft_trainer(num_epochs="three")  # type: ignore[arg-type]
    create_sft_trainer(use_peft=2)  # type: ignore[arg-type]
    create_sft_trainer(num_epoch=3)  # type: ignore[call-arg]
