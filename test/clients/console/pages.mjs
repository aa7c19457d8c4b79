// The pages of the console, for pages.test.mjs: a page is a line. `of` is who
// looks; `path` may be a function that finds it, given a visitor of that kind;
// `status` is what it answers if that is not 200; `act` is what is done on it
// before it is looked at.
export const pages = [
  { name: 'square', of: 'owner', path: '/' },
  { name: 'ask', of: 'owner', path: '/ask' },
  { name: 'ask-answered', of: 'owner', path: '/ask', act: asked },
  { name: 'wallet', of: 'owner', path: '/wallet' },
  { name: 'leases', of: 'owner', path: '/leases' },
  { name: 'lease', of: 'owner', path: linked('/leases') },
  { name: 'receipts', of: 'owner', path: '/receipts' },
  { name: 'receipt', of: 'owner', path: linked('/receipts') },
  { name: 'providers', of: 'owner', path: '/providers' },
  { name: 'provider', of: 'owner', path: linked('/providers') },
  { name: 'models', of: 'owner', path: '/models' },
  { name: 'model', of: 'owner', path: linked('/models') },
  { name: 'provide', of: 'owner', path: '/provide' },
  { name: 'docs', of: 'owner', path: '/docs' },
  { name: 'docs-search', of: 'owner', path: '/docs?q=lease' },
  { name: 'docs-architecture', of: 'owner', path: '/docs/architecture' },
  { name: 'not-found', of: 'owner', path: '/nowhere', status: 404 },
  { name: 'empty-list', of: 'owner', path: '/receipts?what=nothing' },
  { name: 'key-square', of: 'key', path: '/' },
  { name: 'key-ask', of: 'key', path: '/ask' },
  { name: 'key-wallet', of: 'key', path: '/wallet' },
  { name: 'login', of: 'nobody', path: '/login' },
];

// linked finds the first page below a list that the list leads to.
function linked(list) {
  return async (visitor) => {
    const page = await visitor.go(list);
    return page.locator(`main a[href^="${list}/"]`).first().getAttribute('href');
  };
}

async function asked(page) {
  await page.getByLabel('Your words').fill('It is a truth universally acknowledged');
  await page.getByRole('button', { name: 'Ask', exact: true }).click();
  await page.locator('.receipt').getByText(/^Receipt /).click();
}
