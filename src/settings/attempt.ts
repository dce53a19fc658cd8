// An attempt: what one command writes to several GPUs, all or nothing.

export class Attempt {
  readonly #undos: (() => void)[] = [];
  #isOff = false;

  /** A part has been done; `undo` is called if the whole fails, which may have happened already. */
  did(undo: () => void): void {
    if (this.#isOff) undo();
    else this.#undos.push(undo);
  }

  /** The whole has failed: undoes what was done, and what is done later all the same. */
  callOff(): void {
    this.#isOff = true;
    for (const undo of this.#undos.splice(0).toReversed()) undo();
  }
}
