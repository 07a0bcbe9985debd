"""`python -m meshllm` is the `meshllm` command."""

from meshllm.cli import main

if __name__ == "__main__":
    main()
