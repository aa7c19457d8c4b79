// What people do in the console, each journey as they would do it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ask, launch, origin, running, torg, units, Visitor } from './browser.mjs';
import { keplr, metamask } from './wallets.mjs';

const opening = 'It is a truth universally acknowledged';
let browser, owner;

before(async () => { browser = await launch(); });
after(() => browser.close());

// send fills in the chat's form and sends it.
async function say(page, words, tokens) {
  await page.getByLabel('Your words').fill(words);
  if (tokens) await page.getByLabel('At most, tokens').fill(String(tokens));
  await page.getByRole('button', { name: 'Ask', exact: true }).click();
}

test('the link that torg up printed opens the console, once', async () => {
  owner = await Visitor.open(browser);
  const { page } = owner;
  await page.goto(process.env.TORG_LINK);
  await page.waitForURL(origin + '/');
  await page.getByRole('heading', { level: 1, name: 'The square' }).waitFor();
  const cookies = await owner.context.cookies();
  assert.deepEqual(cookies.map((c) => [c.name.replace(/[0-9a-f]{12}$/, ''), c.httpOnly, c.sameSite]), [['torg_console_', true, 'Strict']]);

  const late = await Visitor.open(browser);
  await late.go(process.env.TORG_LINK, 403);
  await late.page.getByRole('heading', { name: 'This link is spent' }).waitFor();
  await late.go('/wallet');
  assert.equal(late.page.url(), origin + '/login?next=%2Fwallet');
  await late.leave();
});

test('the square moves by itself', async () => {
  const page = await owner.go('/');
  await page.locator('#live-state[data-state=live]').waitFor();
  const figure = (name) => page.locator(`[data-live=${name}]`);
  const block = await figure('height').textContent();
  await page.waitForFunction((was) => document.querySelector('[data-live=height]').textContent !== was, block);
  // What is asked elsewhere is counted here, and whom it pays is drawn.
  await figure('requests').filter({ hasText: /^0$/ }).waitFor();
  const questions = Promise.all(Array.from({ length: 8 }, () => ask(opening, 20)));
  await page.waitForFunction(() => document.querySelector('[data-live=requests]').textContent !== '0');
  await page.waitForFunction(() => document.querySelector('[data-live=work]').textContent !== '0');
  await questions;
  await page.locator('#flows svg[role=img] path.pipe').first().waitFor({ state: 'attached' });
  assert.match(await page.locator('#flows desc').textContent(), /pays/);
  await page.locator('#news-list li').first().waitFor();
  // Each chart is a canvas with the same numbers in a table beneath.
  for (const chart of await page.locator('figure.chart').all()) {
    assert.equal(await chart.locator('.plot canvas').count(), 1);
    await chart.getByText('As a table').click();
    assert.ok((await chart.locator('tbody tr').count()) > 0);
  }
});

// The gateway may have drawn the receipt for an audit of its own already.
const auditIt = async (receipt) => {
  const button = receipt.getByRole('button', { name: 'Audit it' });
  if (await button.count()) await button.click();
};

test('ask: the price first, the answer as it comes, its receipt, an audit', async () => {
  const page = await owner.go('/ask');
  const most = page.locator('#facts strong');
  const before = await most.textContent();
  await page.getByLabel('Your words').fill(opening.repeat(4));
  await page.waitForFunction((was) => document.querySelector('#facts strong').textContent !== was, before);
  assert.match(await most.textContent(), /^at most .*TORG$/);
  // Each time that the answer was seen to grow.
  await page.evaluate(() => {
    window.grew = [];
    new MutationObserver(() => {
      const n = document.querySelector('.bubble.theirs .text')?.textContent.length ?? 0;
      if (n > (window.grew.at(-1) ?? 0)) window.grew.push(n);
    }).observe(document.getElementById('log'), { childList: true, subtree: true });
  });
  await say(page, opening, 120);
  const receipt = page.locator('.receipt');
  await receipt.waitFor();
  assert.ok((await page.evaluate(() => window.grew.length)) > 2, 'the answer came in one piece');
  assert.ok((await page.locator('.bubble.theirs .text').textContent()).length > 20);
  assert.ok((await units(receipt)) > 0);
  await receipt.locator('summary').click();
  await receipt.getByText('torg-nano').waitFor();
  assert.equal(await page.getByLabel('Your words').inputValue(), '');

  const id = (await receipt.locator('a[href^="/receipts/"]').getAttribute('href')).split('/').pop();
  await auditIt(receipt);
  await receipt.locator('.badge.good').waitFor();
  assert.match(JSON.parse(await torg('receipt', 'show', id, '-o', 'json')).audit, /equal$/);
  // An audit asked for here has put a closed receipt in its place.
  const whole = receipt.locator('a[href^="/receipts/"]');
  if (!(await whole.isVisible())) await receipt.locator('summary').click();
  await whole.click();
  await page.waitForURL('**/receipts/' + id);
  await page.getByText('The work was done again on the same request and gave the same answer, bit by bit.', { exact: true }).waitFor();
  assert.equal((await page.locator('.speech').first().textContent()).trim(), opening);

  // From the receipt to its lease, and from there back.
  await page.locator('main a[href^="/leases/"]').first().click();
  await page.getByRole('heading', { level: 1, name: /^Lease / }).waitFor();
  await page.locator(`a[href="/receipts/${id}"]`).click();
  await page.getByRole('heading', { level: 1, name: /^Receipt / }).waitFor();
});

test('an answer is proven, and its proof is seen to be checked', async () => {
  const page = await owner.go('/ask');
  const cost = await page.locator('#facts strong').textContent();
  await page.getByLabel('Verification').selectOption({ label: 'with a proof' });
  await page.waitForFunction((was) => document.querySelector('#facts strong').textContent !== was, cost);
  await say(page, opening, 2);
  const receipt = page.locator('.receipt');
  await receipt.waitFor();
  const path = await receipt.locator('a[href^="/receipts/"]').getAttribute('href');
  for (let i = 0; i < 60; i++) { // the proof is made after the answer
    await owner.go(path);
    if (await page.getByText('A proof that the work gave this answer was checked').count()) return;
    await new Promise((r) => setTimeout(r, 500));
  }
  assert.fail('no proof was checked: ' + (await page.locator('.timeline').innerText()));
});

test('an answer is stopped, and what was given by then has its receipt', async () => {
  const page = await owner.go('/ask');
  await page.getByLabel('Your words').fill(opening);
  await page.getByLabel('At most, tokens').fill('2048');
  // The bundled model writes so fast that the page itself has to press the button.
  await page.evaluate(() => new Promise((stopped) => {
    new MutationObserver((_, o) => {
      const stop = document.getElementById('stop');
      if (!document.querySelector('.bubble.theirs .text')?.textContent || stop.hidden || document.activeElement !== stop) return;
      o.disconnect();
      stop.click();
      stopped();
    }).observe(document.getElementById('log'), { childList: true, subtree: true });
    document.getElementById('send').click();
  }));
  await page.getByText('Stopped.').waitFor();
  const receipt = page.locator('.receipt');
  await receipt.waitFor();
  const tokens = Number((await receipt.textContent()).match(/\+ ([\d ,  ]+) tokens/)[1].replace(/\D/g, ''));
  assert.ok(tokens > 0 && tokens < 2048, `${tokens} tokens`);
  // The conversation goes on from there.
  await say(page, 'And then?', 5);
  await page.locator('.bubble.theirs').nth(1).waitFor();
  await page.locator('.receipt').nth(1).waitFor();
});

test('a key with a budget: sees its own, pays within its budget, ends when it is revoked', async () => {
  const page = await owner.go('/wallet');
  await page.getByText('Make a key').click();
  const name = 'shop ' + Date.now().toString(36); // the square may have keys of earlier runs
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Budget, in TORG', { exact: true }).fill('0.01');
  await page.getByRole('button', { name: 'Make it' }).click();
  const secret = await page.locator('#new-secret').textContent();
  assert.match(secret, /^torg-/);
  await owner.go('/wallet');
  assert.equal(await page.getByText(secret).count(), 0, 'the secret is shown again');
  const ours = (await (await owner.go('/receipts')).locator('tbody a[href^="/receipts/"]').first().getAttribute('href'));

  const wrong = await Visitor.open(browser);
  await wrong.go('/login');
  wrong.expect(/status of 401 /);
  await wrong.page.getByRole('textbox', { name: 'API key' }).fill('torg-wrong');
  await wrong.page.getByRole('button', { name: 'Log in' }).click();
  await wrong.page.getByRole('alert').getByText('No key that is in use').waitFor();
  await wrong.leave();

  const shop = await Visitor.keyed(browser, secret);
  await shop.go('/receipts');
  await shop.page.getByText('No receipts yet').waitFor();
  await shop.go(ours, 404);
  await shop.go('/leases');
  assert.equal(await shop.page.locator('tbody tr').count(), 0);
  await shop.go('/wallet');
  await shop.page.getByRole('heading', { name }).waitFor();
  assert.equal(await shop.page.getByText(running.wallet).count(), 0, 'the owner’s account is shown to a key');
  await shop.go('/ask');
  await say(shop.page, opening, 10);
  await shop.page.locator('.receipt').waitFor();
  await shop.go('/receipts');
  assert.equal(await shop.page.locator('tbody tr').count(), 1);
  await shop.go('/');
  assert.equal(await shop.page.getByText(running.wallet).count(), 0, 'the owner’s account is shown to a key');

  // The owner takes the budget away; the key is told so when it asks.
  await owner.go('/wallet');
  await page.getByLabel(`Budget of ${name}, in TORG`).fill('0.000001');
  await page.getByRole('row', { name }).getByRole('button', { name: 'Set' }).click();
  await page.getByText(`The key ${name} has its new budget.`).waitFor();
  await shop.go('/ask');
  shop.expect(/status of 4\d\d .*\/ask\/stream/);
  await say(shop.page, opening, 100);
  await shop.page.getByRole('alert').getByText(/budget/).waitFor();
  assert.equal(await shop.page.getByLabel('Your words').inputValue(), opening, 'the words are lost');

  await shop.go('/receipts'); // away from the chat, which asks for prices now and then
  await page.getByRole('button', { name: 'Revoke ' + name }).click();
  await page.getByText(`The key ${name} is revoked.`).waitFor();
  await shop.go('/receipts');
  assert.match(shop.page.url(), /\/login/);
  await shop.leave();
});

// lessFee is a sum of which a transaction's fee has been paid.
function lessFee(got, sum) {
  assert.ok(got < sum && got > sum - 10_000, `${got} of ${sum}`);
}

test('top up with MetaMask, and log in with it', async () => {
  const mask = metamask();
  const page = await owner.go('/wallet');
  assert.ok(await page.getByRole('button', { name: 'Sign with MetaMask' }).isDisabled());
  // The owner sends the account something, after having been asked twice.
  await page.getByLabel('To', { exact: true }).fill(mask.address);
  await page.getByLabel('Amount, in TORG').fill('5');
  await page.getByRole('button', { name: 'Send from this square' }).click();
  await page.getByRole('heading', { name: 'Send 5 TORG?' }).waitFor();
  await page.getByRole('button', { name: 'Send it' }).click();
  await page.getByRole('status').filter({ hasText: '5 TORG is now with' }).waitFor();
  const had = await units(page.locator('.balance'));

  const state = await owner.context.storageState();
  const top = await Visitor.open(browser, { storageState: state, wallets: mask.inject });
  await top.go('/wallet');
  await top.page.getByRole('button', { name: 'fill it in' }).click();
  await top.page.getByLabel('Amount, in TORG').fill('1.5');
  await top.page.getByRole('button', { name: 'Sign with MetaMask' }).click();
  await top.page.getByRole('status').filter({ hasText: '1.5 TORG is now with' }).waitFor();
  const { domain, primaryType, message } = mask.shown.at(-1);
  assert.deepEqual([domain.name, primaryType, message.amount, message.denom, message.owner.toLowerCase()],
    ['torg', 'Deposit', '1500000', 'utorg', mask.address.toLowerCase()]);
  // The owner carries it to the ledger, for a fee.
  lessFee((await units(top.page.locator('.balance'))) - had, 1_500_000);
  await top.leave();

  // Who has the account's key sees the account, and nothing of the owner's.
  const own = await Visitor.open(browser, { wallets: mask.inject });
  await own.go('/login');
  await own.page.getByRole('button', { name: 'MetaMask' }).click();
  await own.page.waitForURL(origin + '/');
  assert.match(mask.shown.at(-1), /This moves no money/);
  await own.go('/wallet');
  assert.equal(await units(own.page.locator('.balance')), 3_500_000);
  assert.equal(await own.page.getByText('API keys').count(), 0);
  await own.go('/receipts');
  assert.equal(await own.page.locator('tbody tr').count(), 0);
  await own.go('/leases');
  assert.equal(await own.page.locator('tbody tr').count(), 0);
  await own.leave();
});

test('top up with Keplr, and log in with it', async () => {
  const kep = await keplr();
  await torg('wallet', 'send', kep.address, '4TORG');
  const state = await owner.context.storageState();
  const page = await owner.go('/wallet');
  const had = await units(page.locator('.balance'));
  const top = await Visitor.open(browser, { storageState: state, wallets: kep.inject });
  await top.go('/wallet');
  await top.page.getByRole('button', { name: 'fill it in' }).click();
  await top.page.getByLabel('Amount, in TORG').fill('0.25');
  await top.page.getByRole('button', { name: 'Sign with Keplr' }).click();
  await top.page.getByRole('status').filter({ hasText: '0.25 TORG is now with' }).waitFor();
  assert.equal(kep.shown[0].chainId, running.chain_id);
  assert.equal(kep.shown.at(-1).chainId, running.chain_id);
  assert.equal((await units(top.page.locator('.balance'))) - had, 250_000);
  await top.leave();

  const own = await Visitor.open(browser, { wallets: kep.inject });
  await own.go('/login');
  await own.page.getByRole('button', { name: 'Keplr' }).click();
  await own.page.waitForURL(origin + '/');
  await own.go('/wallet');
  lessFee(await units(own.page.locator('.balance')), 3_750_000);
  await own.leave();
});

test('provide: this machine pauses, refuses, and resumes', async () => {
  const page = await owner.go('/provide');
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByRole('button', { name: 'Resume' }).waitFor();
  const buyer = await Visitor.open(browser, { storageState: await owner.context.storageState() });
  await buyer.go('/ask');
  buyer.expect(/status of [45]\d\d .*\/ask\/stream/);
  await say(buyer.page, opening, 10);
  await buyer.page.getByRole('alert').filter({ hasText: /paused/ }).waitFor();
  assert.equal(await buyer.page.getByLabel('Your words').inputValue(), opening, 'the words are lost');

  await page.getByRole('button', { name: 'Resume' }).click();
  await page.getByRole('button', { name: 'Pause' }).waitFor();
  await buyer.page.getByRole('button', { name: 'Ask', exact: true }).click();
  await buyer.page.locator('.receipt').waitFor();
  await buyer.leave();
  // What ran here has it, with its receipt.
  await owner.go('/provide/log');
  await page.locator('#list tbody tr').first().getByText('receipt').waitFor();
});

test('providers and models lead to each other', async () => {
  const page = await owner.go('/models');
  await page.getByRole('link', { name: 'torg-nano' }).first().click();
  await page.getByRole('heading', { level: 1, name: /torg-nano/ }).waitFor();
  await page.locator('main a[href^="/providers/"]').first().click();
  await page.waitForURL('**/providers/*');
  await page.locator('main a[href^="/models/"]').first().click();
  await page.waitForURL('**/models/*');
});

test('lists filter, sort, page and lead to their details', async () => {
  await Promise.all(Array.from({ length: 4 }, async () => {
    for (let i = 0; i < 15; i++) await ask(opening + i);
  }));
  const page = await owner.go('/receipts');
  const rows = page.locator('#list tbody tr');
  assert.equal(await rows.count(), 50);
  const first = await rows.first().locator('a').first().getAttribute('href');
  await page.getByRole('link', { name: 'Next' }).click();
  await page.waitForURL('**/receipts?*from=*');
  const beginning = page.getByRole('link', { name: 'From the beginning' });
  await beginning.waitFor();
  assert.notEqual(await rows.first().locator('a').first().getAttribute('href'), first);
  await page.goBack();
  await beginning.waitFor({ state: 'detached' });
  assert.equal(await rows.first().locator('a').first().getAttribute('href'), first);
  // Leases by what they paid, first up then down.
  await owner.go('/leases');
  const price = page.locator('#list thead th').filter({ hasText: 'Paid' });
  const prices = async () => Promise.all((await rows.locator('td:nth-child(7) data').all()).map(async (d) => Number(await d.getAttribute('value'))));
  for (const [sort, sign] of [['ascending', 1], ['descending', -1]]) {
    for (let i = 0; i < 2 && (await price.getAttribute('aria-sort')) !== sort; i++) {
      const was = await price.getAttribute('aria-sort');
      await price.getByRole('link').click();
      await page.waitForFunction((w) => document.querySelector('#list th[aria-sort="ascending"], #list th[aria-sort="descending"]')?.textContent.includes('Paid')
        && [...document.querySelectorAll('#list th')].find((h) => h.textContent.includes('Paid')).getAttribute('aria-sort') !== w, was);
    }
    assert.equal(await price.getAttribute('aria-sort'), sort);
    const ps = await prices();
    assert.ok(ps.length > 0);
    assert.deepEqual(ps, ps.toSorted((a, b) => sign * (a - b)));
  }
  // What was audited above.
  await owner.go('/receipts');
  await page.getByLabel('Verified').selectOption({ label: 're-executed: equal' });
  await page.getByRole('button', { name: 'Show', exact: true }).click();
  await page.waitForURL('**/receipts?*verified=equal*');
  await page.getByRole('link', { name: 'Show all' }).waitFor();
  assert.ok((await rows.count()) > 0);
  await page.getByLabel('What').fill('no such thing');
  await page.getByRole('button', { name: 'Show', exact: true }).click();
  await page.getByText('Nothing like that').waitFor();
  await page.getByRole('link', { name: 'Show all' }).click();
  await page.getByRole('link', { name: 'Next' }).waitFor();
  await rows.first().locator('a').first().click();
  await page.getByRole('heading', { level: 1, name: /^Receipt / }).waitFor();
  // Addresses that nobody wrote a link to are told what is wrong with them.
  await owner.go('/receipts?from=x', 400);
  await owner.go('/leases?page=x', 400);
  await page.getByRole('heading', { level: 1 }).waitFor();
  await owner.go('/receipts/zz', 404);
});

test('the documents are searched', async () => {
  const page = await owner.go('/docs');
  await page.getByPlaceholder('Search the documents').fill('voucher lane');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: /found for/ }).waitFor();
  const hit = page.locator('.docs-hits a').first();
  assert.ok((await page.locator('.docs-hits mark').count()) > 0);
  const title = await hit.textContent();
  await hit.click();
  await page.waitForURL('**/docs/*');
  await page.locator('article').getByRole('heading', { name: title }).first().waitFor();
  await owner.go('/docs?q=' + encodeURIComponent('<b>xyzzy</b>'));
  await page.getByText('Nothing says so').waitFor();
});

test('the colours change, and stay changed', async () => {
  const v = await Visitor.open(browser, { storageState: await owner.context.storageState(), colorScheme: 'light' });
  const page = await v.go('/');
  const dark = () => page.evaluate(() => {
    const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).map(Number);
    return Math.max(r, g, b) < (Math.max(r, g, b) <= 1 ? 0.5 : 128);
  });
  assert.equal(await dark(), false);
  await page.emulateMedia({ colorScheme: 'dark' });
  assert.equal(await dark(), true, 'the system’s choice is not followed');
  for (const [theme, isDark] of [['light', false], ['dark', true]]) {
    await page.getByRole('button', { name: /^Colours/ }).click();
    await page.locator(`html[data-theme=${theme}]`).waitFor();
    assert.equal(await dark(), isDark);
    await v.go('/docs');
    assert.equal(await dark(), isDark, 'it is forgotten on the next page');
  }
  await v.leave();
});

test('by keyboard alone', async () => {
  const v = await Visitor.open(browser, { storageState: await owner.context.storageState() });
  const page = await v.go('/ask');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to content');
  const box = await page.locator(':focus').boundingBox();
  assert.ok(box.x >= 0 && box.y >= 0 && box.height > 10, 'the skip link is not seen when it has the focus');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');

  // Every stop is seen, and they come in the order of the page.
  await v.go('/ask');
  const stops = [];
  for (;;) {
    await page.keyboard.press('Tab');
    const stop = await page.evaluate(() => {
      const e = document.activeElement;
      if (e === document.body) return null;
      const s = getComputedStyle(e), last = window.last;
      window.last = e;
      const r = e.getBoundingClientRect();
      return {
        name: e.id || e.getAttribute('aria-label') || e.textContent.trim().slice(0, 40),
        seen: e.matches(':focus-visible') && r.width > 0 && r.height > 0 && (parseFloat(s.outlineWidth) > 0 && s.outlineStyle !== 'none' || s.boxShadow !== 'none'),
        forward: !last || !!(last.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING),
      };
    });
    if (!stop || stops.length > 200) break;
    stops.push(stop);
  }
  assert.deepEqual(stops.filter((s) => !s.seen), [], 'stops that do not show that they have the focus');
  assert.deepEqual(stops.filter((s) => !s.forward), [], 'stops that go back');
  for (const needed of ['prompt', 'model', 'tokens', 'send']) assert.ok(stops.some((s) => s.name === needed), `Tab never reaches ${needed}`);

  // A question, its stop and its audit without a mouse.
  const tabTo = async (what) => {
    for (let i = 0; i < 100; i++) {
      if (await page.evaluate((s) => document.activeElement.matches(s), what)) return;
      await page.keyboard.press('Tab');
    }
    assert.fail(`Tab never reaches ${what}`);
  };
  await v.go('/ask');
  await tabTo('#prompt');
  await page.keyboard.type(opening);
  await page.keyboard.press('Enter');
  await page.locator('.receipt').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'prompt', 'the focus is lost after an answer');
  await v.go('/ask');
  await tabTo('a[href="/receipts"]');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/receipts');
  await tabTo('tbody a[href^="/receipts/"]');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/receipts/*');
  await tabTo('main form button');
  await page.keyboard.press('Enter');
  await page.getByText('The work was done again on the same request and gave the same answer, bit by bit.', { exact: true }).waitFor();
  await v.leave();
});

test('without JavaScript: every page is read, a question asked, a key made', async () => {
  const v = await Visitor.owner(browser, { javaScriptEnabled: false });
  const { page } = v;
  for (const item of await page.locator('header nav a').evaluateAll((as) => as.map((a) => a.getAttribute('href')))) {
    await v.go(item);
    await page.getByRole('heading', { level: 1 }).waitFor();
    assert.ok((await page.locator('main').innerText()).length > 100, item + ' has nothing to read');
  }
  await v.go('/');
  assert.ok((await page.locator('figure.chart svg path.line').count()) > 0, 'no chart is drawn');
  await v.go('/ask');
  assert.equal(await page.getByRole('button', { name: 'Stop' }).isVisible(), false);
  await say(page, opening, 30);
  await page.locator('.bubble.theirs').waitFor();
  const receipt = page.locator('.receipt');
  await receipt.waitFor();
  await say(page, 'Go on.', 30);
  await page.locator('.bubble.theirs').nth(1).waitFor();
  await auditIt(page.locator('.receipt').nth(1));
  await page.locator('.receipt .badge.good').waitFor();

  await v.go('/wallet');
  await page.getByText('Make a key').click();
  const name = 'plain ' + Date.now().toString(36);
  await page.getByLabel('Name').fill(name);
  await page.getByRole('button', { name: 'Make it' }).click();
  assert.match(await page.locator('#new-secret').textContent(), /^torg-/);
  await page.getByRole('button', { name: 'Revoke ' + name }).click();
  await page.getByText(`The key ${name} is revoked.`).waitFor();

  await v.go('/receipts');
  await page.getByRole('link', { name: 'Next' }).click();
  await page.getByRole('link', { name: 'From the beginning' }).waitFor();
  await v.go('/docs?q=lease');
  await page.getByRole('heading', { name: /found for/ }).waitFor();
  await page.getByRole('button', { name: /^Colours/ }).click();
  await page.locator('html[data-theme=light]').waitFor();
  await v.leave();
});

test('who leaves is out', async () => {
  const state = await owner.context.storageState();
  await owner.go('/wallet');
  await owner.page.getByRole('button', { name: 'Leave' }).click();
  await owner.page.waitForURL('**/login');
  await owner.leave();
  // Neither does the cookie of before open anything.
  const back = await Visitor.open(browser, { storageState: state });
  for (const path of ['/', '/wallet', '/receipts', '/ask']) {
    await back.go(path);
    assert.match(back.page.url(), /\/login/);
  }
  await back.leave();
});
