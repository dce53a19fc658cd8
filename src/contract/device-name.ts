// What a GPU can be called by besides its id: a UUID or a PCI address, in any of the ways that tools write them.

const uuidForm = /^gpu-[0-9a-f-]{1,100}$/i;
const addressForm = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$/i;

/** Whether a text can be the name of a GPU at all. */
export function isGpuName(text: string): boolean {
  return uuidForm.test(text) || addressForm.test(text);
}

/** Whether a GPU is called so; `wanted` is a name's normal form. */
export function isCalled({ uuid, pci_address }: Named, wanted: string): boolean {
  return [uuid, pci_address].some((own) => own && normalGpuName(own) === wanted);
}

interface Named {
  readonly uuid?: string | null | undefined;
  readonly pci_address?: string | null | undefined;
}

/** The same for all ways to write a name: PCI addresses come with a domain of eight digits (nvidia-smi), of four, or without one. */
export function normalGpuName(name: string): string {
  const [, domain = "0", rest] = addressForm.exec(name) ?? [];
  return rest === undefined ? name.toLowerCase() : `${Number.parseInt(domain, 16)}:${rest.toLowerCase()}`;
}
