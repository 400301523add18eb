"""Mistakes in the commands."""

# fmt: off
MUTATIONS = [
    ("judge that breaks at the end leaves no card", "cli/train.py", "except Exception as error:  # a judge",
     "except OSError as error:  # a judge",
     "cli/test_rpo_command.py::test_judge_that_breaks_in_the_last_evaluation_takes_nothing_from_what_was_trained"),
    ("all-linear or a pattern taken for the name of a layer", "cli/train_arguments.py",
     'settings["lora_target_modules"] = targets[0]', 'settings["lora_target_modules"] = targets', "cli/test_train.py"),
    ("commands on TinyScenes compute with all threads", "cli/train.py", "                use_one_thread()\n",
     "                pass\n", "tiny_scenes/test_threads.py"),
    ("~ in a YAML file is a folder", "cli/arguments.py",
     "    parser.set_defaults_with_config = lambda **values: set_defaults(**_at_home(values))\n", "",
     "cli/test_arguments.py"),
    ("switches are words in the schema", "cli/schema.py", '"string_to_bool": {"type": "boolean"}',
     '"string_to_bool": {"type": "string"}', "cli/test_schema.py"),
    ("a name that ships wins over a file", "shipped.py", "    if path.is_file():\n        return path\n", "",
     "test_shipped.py"),
    ("TinyScenes starts at 512 pixels", "policies/auto.py", "    check_sizes_of_shipped(model, sizes)\n", "",
     "test_shipped.py"),
    ("a recipe's setting for another trainer is dropped", "trainer/recipes.py",
     "if name not in known and not OF_THE_COMMAND.fullmatch(name):", "if False:", "trainer/test_recipes.py"),
    ("no figure of the leaderboard", "cli/judge.py", "else benchmark.official", "else ()",
     "cli/test_judge_command.py"),
    ("a typo waits for the trainer", "cli/train.py", "        early = read_early(command, argv)\n", "        early = None\n",
     "cli/test_light_config.py"),
    ("settings of a later transformers are refused early", "cli/light_config.py",
     "        self.gradient_checkpointing = checkpointing\n", "        pass\n", "cli/test_light_config.py"),
    ("an option that has to be given is hidden", "cli/options_help.py", "if action.required)\n", "if False)\n",
     "cli/test_options_help.py"),
    ("a dry run makes folders", "cli/rubric.py", "        if not args.dry_run:  # which leaves nothing behind\n",
     "        if True:\n", "cli/test_rubric_command.py"),
]
# fmt: on
